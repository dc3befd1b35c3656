/* The slowest functions of `pixels.c` for x86 CPUs with AVX2, which compilers vectorize badly: they look up in tables,
 * or read and write every third byte. The results are the same to the bit.
 */
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

/* ---- reduction ------------------------------------------------------------------------------------------------- */

/* Rounds to 0..255, as `to_byte`. */
AVX2 INLINE __m256i to_bytes(__m256 values)
{
    values = _mm256_max_ps(_mm256_add_ps(values, _mm256_set1_ps(0.5f)), _mm256_setzero_ps());
    return _mm256_cvttps_epi32(_mm256_min_ps(values, _mm256_set1_ps(255)));
}

/* Converts 8 pixels to RGB, as `to_rgb`. Writes 4 bytes more. */
AVX2 INLINE void to_rgb_8(__m256 y, __m256 u, __m256 v, const float *luma, const float *chroma, uint8_t *rgb)
{
    const __m256 middle = _mm256_set1_ps(128);
    const __m256i packed = _mm256_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1, 0, 1, 2, 4, 5, 6, 8,
                                            9, 10, 12, 13, 14, -1, -1, -1, -1);
    __m256 gray = _mm256_add_ps(_mm256_mul_ps(y, _mm256_set1_ps(luma[0])), _mm256_set1_ps(luma[1]));
    __m256 blue = _mm256_sub_ps(u, middle), red = _mm256_sub_ps(v, middle);
    __m256 g = _mm256_sub_ps(gray, _mm256_mul_ps(blue, _mm256_set1_ps(chroma[0])));
    g = _mm256_sub_ps(g, _mm256_mul_ps(red, _mm256_set1_ps(chroma[3])));
    __m256i pixels = to_bytes(_mm256_add_ps(gray, _mm256_mul_ps(red, _mm256_set1_ps(chroma[2]))));
    pixels = _mm256_or_si256(pixels, _mm256_slli_epi32(to_bytes(g), 8));
    __m256i b = to_bytes(_mm256_add_ps(gray, _mm256_mul_ps(blue, _mm256_set1_ps(chroma[1]))));
    pixels = _mm256_shuffle_epi8(_mm256_or_si256(pixels, _mm256_slli_epi32(b, 16)), packed);
    _mm_storeu_si128((__m128i *)rgb, _mm256_castsi256_si128(pixels));
    _mm_storeu_si128((__m128i *)(rgb + 12), _mm256_extracti128_si256(pixels, 1));
}

/* Converts most pixels of a row, and returns their number. */
AVX2 static int to_rgb_avx2(const float *y, const float *u, const float *v, const float *luma, const float *chroma,
                            int count, uint8_t *rgb)
{
    int x = 0;
    for (; x + 10 <= count; x += 8)
        to_rgb_8(_mm256_loadu_ps(y + x), _mm256_loadu_ps(u + x), _mm256_loadu_ps(v + x), luma, chroma, rgb + 3 * x);
    return x;
}

/* The four sums of three values in each half. */
AVX2 INLINE __m256i sums_of_three(const uint8_t *values)
{
    const __m256i apart = _mm256_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1, 0, 1, 2, -1, 3, 4, 5,
                                           -1, 6, 7, 8, -1, 9, 10, 11, -1);
    __m256i found = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)values));
    found = _mm256_inserti128_si256(found, _mm_loadu_si128((const __m128i *)(values + 12)), 1);
    return _mm256_maddubs_epi16(_mm256_shuffle_epi8(found, apart), _mm256_set1_epi8(1));
}

/* The eight sums of three columns of luma in a row of chroma, of which each pixel belongs to two columns. */
AVX2 INLINE __m128i sums_of_chroma(const uint8_t *values)
{
    const __m128i pairs = _mm_setr_epi8(0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11);
    const __m128i weights = _mm_setr_epi8(2, 1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2);
    __m128i found = _mm_loadu_si128((const __m128i *)values);
    return _mm_maddubs_epi16(_mm_shuffle_epi8(found, pairs), weights);
}

/* Reduces most of a row by a factor of 3 (1080p to 360p), and returns the number of pixels. */
AVX2 static int reduce_by_3(const struct reduction *r, int y)
{
    const __m256 scale = _mm256_set1_ps(1.0f / 9);
    const uint8_t *rows[3], *chroma[2][2]; /* of chroma, the row that belongs to two of luma, and the other one */
    for (int i = 0; i < 3; i++)
        rows[i] = r->planes[0] + (3 * y + i) * r->strides[0];
    for (int i = 0; i < 2; i++) {
        chroma[i][0] = r->planes[1 + i] + ((3 * y + 1) >> 1) * r->strides[1 + i];
        chroma[i][1] = r->planes[1 + i] + (3 * y % 2 ? 3 * y / 2 : (3 * y + 2) / 2) * r->strides[1 + i];
    }
    uint8_t *rgb = r->result + 3 * (ptrdiff_t)r->width * y;
    int x = 0;
    for (; x + 12 <= r->width; x += 8) { /* reads 4 bytes more than 8 pixels need */
        __m256i sum = _mm256_add_epi16(sums_of_three(rows[0] + 3 * x), sums_of_three(rows[1] + 3 * x));
        sum = _mm256_madd_epi16(_mm256_add_epi16(sum, sums_of_three(rows[2] + 3 * x)), _mm256_set1_epi16(1));
        __m256 means[2];
        for (int i = 0; i < 2; i++) {
            __m128i both = sums_of_chroma(chroma[i][0] + x / 8 * 12);
            both = _mm_add_epi16(_mm_add_epi16(both, both), sums_of_chroma(chroma[i][1] + x / 8 * 12));
            means[i] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(both)), scale);
        }
        __m256 mean = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
        to_rgb_8(mean, means[0], means[1], r->luma, r->chroma, rgb + 3 * x);
    }
    return x;
}

/* ---- overlays -------------------------------------------------------------------------------------------------- */

AVX2 static void enlarge_row_avx2(const int16_t *row, const int32_t *columns, const int16_t *weights, int width,
                                  int16_t *result)
{
    const __m256i half = _mm256_set1_epi32(1 << (WEIGHT_BITS - ROW_BITS - 1));
    const __m256i next = _mm256_set1_epi32(0x03020100), others = _mm256_set1_epi32(0x04040404);
    int x = 0;
    for (; x + 8 <= width; x += 8) {
        /* Four columns need at most 7 columns of the map. Each number of the shuffle has the bytes of two of them. */
        __m256i from = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(row + columns[x])));
        from = _mm256_inserti128_si256(from, _mm_loadu_si128((const __m128i *)(row + columns[x + 4])), 1);
        __m256i at = _mm256_loadu_si256((const __m256i *)(columns + x));
        at = _mm256_slli_epi32(_mm256_sub_epi32(at, _mm256_shuffle_epi32(at, 0)), 1);
        at = _mm256_or_si256(at, _mm256_slli_epi32(at, 8));
        at = _mm256_add_epi32(_mm256_or_si256(at, _mm256_slli_epi32(at, 16)), next);
        __m256i left = _mm256_loadu_si256((const __m256i *)(weights + 2 * x));
        __m256i right = _mm256_loadu_si256((const __m256i *)(weights + 2 * (width + x)));
        __m256i sum = _mm256_madd_epi16(_mm256_shuffle_epi8(from, at), left);
        at = _mm256_add_epi32(at, others);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(from, at), right));
        sum = _mm256_srai_epi32(_mm256_add_epi32(sum, half), WEIGHT_BITS - ROW_BITS);
        __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        _mm_storeu_si128((__m128i *)(result + x), packed);
    }
    for (; x < width; x++) {
        const int16_t *from = row + columns[x], *left = weights + 2 * x, *right = weights + 2 * (width + x);
        int32_t sum = from[0] * left[0] + from[1] * left[1] + from[2] * right[0] + from[3] * right[1];
        result[x] = (sum + (1 << (WEIGHT_BITS - ROW_BITS - 1))) >> (WEIGHT_BITS - ROW_BITS);
    }
}

AVX2 static void halve_avx2(const uint8_t *upper, const uint8_t *lower, int count, uint8_t *result)
{
    const __m256i one = _mm256_set1_epi8(1), two = _mm256_set1_epi16(2);
    for (int x = 0; x < count; x += 16) { /* the rows have room for whole vectors */
        __m256i sum = _mm256_maddubs_epi16(_mm256_loadu_si256((const __m256i *)(upper + 2 * x)), one);
        __m256i below = _mm256_maddubs_epi16(_mm256_loadu_si256((const __m256i *)(lower + 2 * x)), one);
        sum = _mm256_srli_epi16(_mm256_add_epi16(_mm256_add_epi16(sum, below), two), 2);
        sum = _mm256_permute4x64_epi64(_mm256_packus_epi16(sum, sum), 0x08);
        _mm_storeu_si128((__m128i *)(result + x), _mm256_castsi256_si128(sum));
    }
}

AVX2 INLINE int smallest_of(__m256i values)
{
    __m128i low = _mm_min_epu8(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    return _mm_cvtsi128_si32(_mm_minpos_epu16(_mm_min_epu8(low, _mm_srli_epi16(low, 8)))) & 255;
}

/* Multiply 16 numbers, divide them by 255, and round. */
AVX2 INLINE __m256i scaled_16(__m256i pixels, __m256i factors)
{
    __m256i kept = _mm256_add_epi16(_mm256_mullo_epi16(pixels, factors), _mm256_set1_epi16(128));
    return _mm256_srli_epi16(_mm256_add_epi16(kept, _mm256_srli_epi16(kept, 8)), 8);
}

AVX2 INLINE __m256i blend_32(__m256i pixel, __m256i factor, __m256i color)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i low = scaled_16(_mm256_unpacklo_epi8(pixel, zero), _mm256_unpacklo_epi8(factor, zero));
    __m256i high = scaled_16(_mm256_unpackhi_epi8(pixel, zero), _mm256_unpackhi_epi8(factor, zero));
    return _mm256_adds_epu8(_mm256_packus_epi16(low, high), color);
}

/* Blends 64 pixels. `tables` has the factors, then the colors, by value. */
AVX2 INLINE void blend_64(const uint8_t *pixels, const uint8_t *values, const uint8_t *tables, __m256i lowest,
                          uint8_t *result)
{
    __m256i value[2], pixel[2], factor[2], color[2], biggest, beyond = _mm256_set1_epi8(0x70);
    for (int i = 0; i < 2; i++) {
        value[i] = _mm256_loadu_si256((const __m256i *)values + i);
        pixel[i] = _mm256_loadu_si256((const __m256i *)pixels + i);
        factor[i] = color[i] = _mm256_setzero_si256();
    }
    biggest = _mm256_max_epu8(value[0], value[1]);
    if (_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(biggest, lowest), biggest))) {
        /* Neighbors have similar values, so that they need few parts of the tables. */
        int part = smallest_of(_mm256_min_epu8(value[0], value[1])) & ~15;
        int end = 255 - smallest_of(_mm256_xor_si256(biggest, _mm256_set1_epi8(-1)));
        for (; part <= end; part += 16) {
            __m256i factors = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(tables + part)));
            __m256i colors = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(tables + 256 + part)));
            for (int i = 0; i < 2; i++) {
                /* A shuffle yields 0 for numbers from 128 on: those of values that are not in this part. */
                __m256i at = _mm256_adds_epu8(_mm256_sub_epi8(value[i], _mm256_set1_epi8((char)part)), beyond);
                factor[i] = _mm256_or_si256(factor[i], _mm256_shuffle_epi8(factors, at));
                color[i] = _mm256_or_si256(color[i], _mm256_shuffle_epi8(colors, at));
            }
        }
        for (int i = 0; i < 2; i++)
            pixel[i] = blend_32(pixel[i], factor[i], color[i]);
    }
    for (int i = 0; i < 2; i++)
        _mm256_storeu_si256((__m256i *)result + i, pixel[i]);
}

AVX2 static void blend_row_avx2(const uint8_t *pixels, const uint8_t *values, const uint8_t *tables, int first,
                                int width, uint8_t *result)
{
    const __m256i lowest = _mm256_set1_epi8((char)first);
    uint8_t rest[BLOCK] = {0};
    int x = 0;
    for (; x + BLOCK <= width; x += BLOCK)
        blend_64(pixels + x, values + x, tables, lowest, result + x);
    if (x < width) { /* rows of values have room for whole vectors */
        memcpy(rest, pixels + x, width - x);
        blend_64(rest, values + x, tables, lowest, rest);
        memcpy(result + x, rest, width - x);
    }
}
