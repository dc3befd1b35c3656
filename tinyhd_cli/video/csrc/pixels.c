/* Work on the pixels of video frames in one pass over memory. `pixels.py` defines the arguments, and has the same in
 * OpenCV for machines without this file. Compiled without fused multiply-add (-ffp-contract=off), whose results differ.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The functions that are called from Python. */
#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif

/* Compiled for several CPUs, of which glibc chooses when it loads the library; elsewhere, for any CPU. */
#if defined(__x86_64__) && defined(__GLIBC__) && __GNUC__ >= 12 && !defined(__clang__)
#define FASTEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FASTEST
#endif

#define INLINE static inline __attribute__((always_inline))

/* Changes with the arguments of the functions; must match `pixels.py`. */
EXPORT const int32_t version = 4;

/* For tests: 1 to use the code for any CPU, 2 to use that for CPUs with AVX2. */
EXPORT int32_t plain = 0;

/* Pixels that are blended, or only copied, at a time; numbers between rows of memory, which vectors may overwrite;
 * columns and rows that a map is extended by on each side; fractions of weights and of enlarged rows. */
enum { BLOCK = 64, GAP = 64, EDGE = 2, WEIGHT_BITS = 14, ROW_BITS = 6 };

/* ---- resizing --------------------------------------------------------------------------------------------------- */

/* The pair of neighbors that each row or column of a resized image is mixed from. */
typedef struct {
    const int32_t *first, *second; /* rows, or values from the start of a row */
    const float *weights;          /* of the second one, 0 to 1 */
} neighbors;

FASTEST
static void mix_rows(const uint8_t *upper, const uint8_t *lower, float weight, int count, float *row)
{
    float rest = 1 - weight;
    for (int i = 0; i < count; i++)
        row[i] = upper[i] * rest + lower[i] * weight;
}

FASTEST
static void mix_columns(const float *row, neighbors columns, int width, float factor, float shift, float *result)
{
    for (int x = 0; x < width; x++) {
        float weight = columns.weights[x];
        float value = row[columns.first[x]] * (1 - weight) + row[columns.second[x]] * weight;
        result[x] = value * factor - shift;
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

/* Mixes all channels of a pixel, and normalizes them. */
INLINE __m128 mix_pixel(const float *row, neighbors columns, int x, __m128 factors, __m128 shifts)
{
    __m128 weight = _mm_set1_ps(columns.weights[x]), rest = _mm_sub_ps(_mm_set1_ps(1), weight);
    __m128 first = _mm_loadu_ps(row + columns.first[x]), second = _mm_loadu_ps(row + columns.second[x]);
    __m128 value = _mm_add_ps(_mm_mul_ps(first, rest), _mm_mul_ps(second, weight));
    return _mm_sub_ps(_mm_mul_ps(value, factors), shifts);
}

/* Does the same as `mix_columns` with most pixels of a row of all channels, and returns their number. */
static int mix_pixels(const float *row, neighbors columns, int width, const float *factors, const float *shifts,
                      float *result, ptrdiff_t plane)
{
    const __m128 factor = _mm_setr_ps(factors[0], factors[1], factors[2], 0);
    const __m128 shift = _mm_setr_ps(shifts[0], shifts[1], shifts[2], 0);
    int x = 0;
    for (; x + 4 <= width; x += 4) {
        __m128 a = mix_pixel(row, columns, x, factor, shift), b = mix_pixel(row, columns, x + 1, factor, shift);
        __m128 c = mix_pixel(row, columns, x + 2, factor, shift), d = mix_pixel(row, columns, x + 3, factor, shift);
        _MM_TRANSPOSE4_PS(a, b, c, d);
        _mm_storeu_ps(result + x, a);
        _mm_storeu_ps(result + plane + x, b);
        _mm_storeu_ps(result + 2 * plane + x, c);
    }
    return x;
}
#else
#define mix_pixels(row, columns, width, factors, shifts, result, plane) 0
#endif

/* Resizes an RGB image bilinearly, and normalizes it, to planes of floats. `row` has room for a row of the image, and
 * for one more number. */
EXPORT void resize(const uint8_t *image, ptrdiff_t stride, int pixels, const neighbors *rows, int height,
                   const neighbors *columns, int width, const float *factors, const float *shifts, float *row,
                   float *result)
{
    for (int y = 0; y < height; y++) {
        const uint8_t *upper = image + rows->first[y] * stride, *lower = image + rows->second[y] * stride;
        mix_rows(upper, lower, rows->weights[y], 3 * pixels, row);
        ptrdiff_t plane = (ptrdiff_t)height * width;
        float *to = result + (ptrdiff_t)y * width;
        int done = mix_pixels(row, *columns, width, factors, shifts, to, plane);
        neighbors others = {columns->first + done, columns->second + done, columns->weights + done};
        for (int c = 0; c < 3; c++)
            mix_columns(row + c, others, width - done, factors[c], shifts[c], to + c * plane + done);
    }
}

/* ---- reduction ------------------------------------------------------------------------------------------------- */

/* A frame whose sides are divided by a whole factor, by averaging, and converted to RGB. */
struct reduction {
    const uint8_t *planes[3]; /* luma, and chroma of half its width and height */
    uint8_t *result;          /* (height, width, 3) */
    uint16_t *sums;           /* room for 6 rows of the frame */
    int64_t strides[3];
    float luma[2];   /* factor and summand that map luma to 0..255 */
    float chroma[4]; /* of blue difference in green and blue, of red difference in red and green */
    int32_t factor, width, height; /* size of the result */
};

FASTEST
static void add_row(const uint8_t *row, int count, uint16_t *sums)
{
    for (int i = 0; i < count; i++)
        sums[i] += row[i];
}

/* Repeats each number, because a pixel of chroma belongs to two of luma. */
FASTEST
static void double_row(const uint16_t *from, int count, uint16_t *to)
{
    for (int i = 0; i < count; i++)
        to[2 * i] = to[2 * i + 1] = from[i];
}

INLINE void add_columns(const uint16_t *from, const int factor, int count, float *to)
{
    float scale = 1.0f / (float)(factor * factor);
    for (int x = 0; x < count; x++) {
        int32_t sum = 0;
        for (int i = 0; i < factor; i++)
            sum += from[factor * x + i];
        to[x] = (float)sum * scale;
    }
}

/* Averages columns. Vectorized for the factors of common sizes of videos. */
FASTEST
static void average_columns(const uint16_t *from, int factor, int count, float *to)
{
    switch (factor) {
    case 2: add_columns(from, 2, count, to); break;
    case 3: add_columns(from, 3, count, to); break;
    case 4: add_columns(from, 4, count, to); break;
    case 6: add_columns(from, 6, count, to); break;
    default: add_columns(from, factor, count, to);
    }
}

INLINE uint8_t to_byte(float value)
{
    value = value > 0 ? value + 0.5f : 0;
    return (uint8_t)(int32_t)(value < 255 ? value : 255);
}

FASTEST
static void to_rgb(const float *y, const float *u, const float *v, const float *luma, const float *chroma, int count,
                   uint8_t *rgb)
{
    for (int x = 0; x < count; x++) {
        float gray = y[x] * luma[0] + luma[1], blue = u[x] - 128, red = v[x] - 128;
        rgb[3 * x] = to_byte(gray + red * chroma[2]);
        rgb[3 * x + 1] = to_byte(gray - blue * chroma[0] - red * chroma[3]);
        rgb[3 * x + 2] = to_byte(gray + blue * chroma[1]);
    }
}

#if defined(__x86_64__)
#include "pixels_avx2.h"

static int has_avx2(void) { return plain != 1 && __builtin_cpu_supports("avx2"); }
#else
static int has_avx2(void) { return 0; }
#define to_rgb_avx2(y, u, v, luma, chroma, count, rgb) 0
#define reduce_by_3(r, y) 0
#define enlarge_row_avx2 enlarge_row
#define halve_avx2 halve
#define blend_row_avx2(pixels, values, tables, first, width, result)
#endif

/* Reduces a row from column `start` of the result on. */
static void reduce_row(const struct reduction *r, int y, int start)
{
    int count = r->width - start, wide = r->factor * count;
    float *means = (float *)(r->sums + 3 * wide); /* three rows of the result */
    memset(r->sums, 0, 3 * wide * sizeof *r->sums);
    for (int plane = 0; plane < 3; plane++) {
        uint16_t *sums = r->sums + (plane ? wide : 0);
        int half = plane > 0, top = r->factor * y;
        const uint8_t *pixels = r->planes[plane] + (r->factor * start >> half);
        for (int i = top; i < top + r->factor; i++)
            add_row(pixels + (i >> half) * r->strides[plane], wide >> half, sums);
        if (half) {
            double_row(sums, wide / 2, sums + wide);
            memset(sums, 0, wide * sizeof *sums);
            sums += wide;
        }
        average_columns(sums, r->factor, count, means + plane * count);
    }
    uint8_t *rgb = r->result + 3 * ((ptrdiff_t)r->width * y + start);
    const float *u = means + count, *v = u + count;
    int done = has_avx2() ? to_rgb_avx2(means, u, v, r->luma, r->chroma, count, rgb) : 0;
    to_rgb(means + done, u + done, v + done, r->luma, r->chroma, count - done, rgb + 3 * done);
}

EXPORT void reduce(const struct reduction *r)
{
    for (int y = 0; y < r->height; y++)
        reduce_row(r, y, r->factor == 3 && has_avx2() ? reduce_by_3(r, y) : 0);
}

/* ---- overlays -------------------------------------------------------------------------------------------------- */

/* A map of saliency that is enlarged to the size of a frame, with bicubic interpolation, and blended with it. */
struct painting {
    const uint8_t *planes[3];      /* luma, and chroma of half its width and height */
    uint8_t *results[3];
    const uint16_t *mixtures[3];   /* by value: the pixel's factor, times 255, and in the upper byte the color to add */
    const uint8_t *map;            /* (map_height, map_width) */
    const int32_t *rows, *columns; /* by row and column of the frame: the first of four of the map, which is extended */
    const int16_t *row_weights;    /* (height, 4), times WEIGHT */
    const int16_t *column_weights; /* (2, width, 2): of the first two columns, then of the others */
    int16_t *scratch;              /* map_width + 7 * width + 16 * GAP */
    int64_t strides[3], result_strides[3];
    int32_t map_width, map_height, width, height; /* the map is at most as wide and high as the frame */
};

/* The mixture that does not change a pixel: a factor of 1, and no color. */
enum { UNCHANGED = 255 };

/* Rows of the enlarged map that two rows of a frame are mixed from, at most. */
enum { ROWS = 5 };

FASTEST
static void enlarge_row(const int16_t *row, const int32_t *columns, const int16_t *weights, int width, int16_t *result)
{
    const int16_t *left = weights, *right = weights + 2 * width;
    for (int x = 0; x < width; x++) {
        const int16_t *from = row + columns[x];
        int32_t sum = from[0] * left[2 * x] + from[1] * left[2 * x + 1];
        sum += from[2] * right[2 * x] + from[3] * right[2 * x + 1];
        result[x] = (sum + (1 << (WEIGHT_BITS - ROW_BITS - 1))) >> (WEIGHT_BITS - ROW_BITS);
    }
}

/* The product of two fractions of 15 bits, rounded, which is one instruction. */
INLINE int16_t product(int16_t a, int16_t b) { return (int16_t)((((int32_t)a * b >> 14) + 1) >> 1); }

FASTEST
static void mix_enlarged(const int16_t *const *rows, const int16_t *weights, int width, uint8_t *values)
{
    const int16_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    const int shift = ROW_BITS + WEIGHT_BITS - 15;
    for (int x = 0; x < width; x++) {
        int16_t sum = product(a[x], weights[0]) + product(b[x], weights[1]);
        sum += product(c[x], weights[2]) + product(d[x], weights[3]);
        sum = (int16_t)(sum + (1 << (shift - 1))) >> shift;
        sum = sum > 0 ? sum : 0;
        values[x] = sum < 255 ? sum : 255;
    }
}

/* Averages squares of four values. */
FASTEST
static void halve(const uint8_t *upper, const uint8_t *lower, int count, uint8_t *result)
{
    for (int x = 0; x < count; x++)
        result[x] = (upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1] + 2) >> 2;
}

FASTEST
static int largest(const uint8_t *values, int count)
{
    uint8_t found = 0;
    for (int i = 0; i < count; i++)
        found = values[i] > found ? values[i] : found;
    return found;
}

FASTEST
static void blend_block(const uint8_t *pixels, const uint16_t *mixture, int count, uint8_t *result)
{
    for (int i = 0; i < count; i++) {
        uint16_t kept = pixels[i] * (mixture[i] & 255) + 128;
        kept = (uint16_t)(kept + (kept >> 8)) >> 8; /* divided by 255, rounded */
        uint16_t sum = kept + (mixture[i] >> 8);
        result[i] = sum < 255 ? sum : 255;
    }
}

/* Blends each pixel with the color of its value. Values below `first` change nothing. */
static void blend_row(const uint8_t *pixels, const uint8_t *values, const uint16_t *mixtures, int first, int width,
                      uint8_t *result)
{
    uint16_t mixture[BLOCK];
    for (int x = 0; x < width; x += BLOCK) {
        int count = width - x < BLOCK ? width - x : BLOCK;
        if (largest(values + x, count) < first) {
            memcpy(result + x, pixels + x, count);
            continue;
        }
        for (int i = 0; i < count; i++)
            mixture[i] = mixtures[values[x + i]];
        blend_block(pixels + x, mixture, count, result + x);
    }
}

#if defined(__x86_64__)
/* The same with tables in registers, for CPUs with AVX-512 VBMI. */
#define VBMI __attribute__((target("avx512f,avx512bw,avx512vbmi")))

static int has_vbmi(void)
{
    return !plain && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi");
}

VBMI static void enlarge_row_vbmi(const int16_t *row, const int32_t *columns, const int16_t *weights, int width,
                                  int16_t *result)
{
    const __m512i half = _mm512_set1_epi32(1 << (WEIGHT_BITS - ROW_BITS - 1));
    for (int x = 0; x < width; x += 16) {
        __mmask16 inside = width - x < 16 ? (__mmask16)((1u << (width - x)) - 1) : 0xffff;
        /* 16 columns need at most 20 columns of the map. Each lane gets the numbers of two of them. */
        __m512i from = _mm512_loadu_si512(row + columns[x]);
        __m512i at = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(inside, columns + x), _mm512_set1_epi32(columns[x]));
        at = _mm512_add_epi16(_mm512_or_si512(at, _mm512_slli_epi32(at, 16)), _mm512_set1_epi32(0x10000));
        __m512i others = _mm512_add_epi16(at, _mm512_set1_epi16(2));
        __m512i left = _mm512_maskz_loadu_epi32(inside, weights + 2 * x);
        __m512i right = _mm512_maskz_loadu_epi32(inside, weights + 2 * (width + x));
        __m512i sum = _mm512_add_epi32(_mm512_madd_epi16(_mm512_permutexvar_epi16(at, from), left),
                                       _mm512_madd_epi16(_mm512_permutexvar_epi16(others, from), right));
        sum = _mm512_srai_epi32(_mm512_add_epi32(sum, half), WEIGHT_BITS - ROW_BITS);
        _mm256_storeu_si256((__m256i *)(result + x), _mm512_cvtepi32_epi16(sum));
    }
}

/* Look up 64 bytes in a table of 256. */
VBMI INLINE __m512i look_up(const __m512i *table, __m512i values)
{
    __m512i low = _mm512_permutex2var_epi8(table[0], values, table[1]);
    __m512i high = _mm512_permutex2var_epi8(table[2], values, table[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(values), low, high);
}

/* Multiply 32 numbers, divide them by 255, and round. */
VBMI INLINE __m512i scaled(__m512i pixels, __m512i factors)
{
    __m512i kept = _mm512_add_epi16(_mm512_mullo_epi16(pixels, factors), _mm512_set1_epi16(128));
    return _mm512_srli_epi16(_mm512_add_epi16(kept, _mm512_srli_epi16(kept, 8)), 8);
}

VBMI static void blend_row_vbmi(const uint8_t *pixels, const uint8_t *values, const uint16_t *mixtures, int first,
                                int width, uint8_t *result)
{
    __m512i kept[4], colors[4], zero = _mm512_setzero_si512();
    for (int i = 0; i < 4; i++) {
        const __m512i low = _mm512_loadu_si512(mixtures + 64 * i), high = _mm512_loadu_si512(mixtures + 64 * i + 32);
        __m256i start = _mm512_cvtepi16_epi8(low), rest = _mm512_cvtepi16_epi8(high);
        __m512i part = _mm512_inserti64x4(_mm512_castsi256_si512(start), rest, 1);
        kept[i] = part;
        colors[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(_mm512_srli_epi16(low, 8))),
                                       _mm512_cvtepi16_epi8(_mm512_srli_epi16(high, 8)), 1);
    }
    for (int x = 0; x < width; x += 64) {
        __mmask64 inside = width - x < 64 ? (1ull << (width - x)) - 1 : ~0ull;
        __m512i value = _mm512_maskz_loadu_epi8(inside, values + x);
        __m512i pixel = _mm512_maskz_loadu_epi8(inside, pixels + x);
        if (_mm512_cmpge_epu8_mask(value, _mm512_set1_epi8((char)first))) {
            __m512i factor = look_up(kept, value);
            __m512i low = scaled(_mm512_unpacklo_epi8(pixel, zero), _mm512_unpacklo_epi8(factor, zero));
            __m512i high = scaled(_mm512_unpackhi_epi8(pixel, zero), _mm512_unpackhi_epi8(factor, zero));
            pixel = _mm512_adds_epu8(_mm512_packus_epi16(low, high), look_up(colors, value));
        }
        _mm512_mask_storeu_epi8(result + x, inside, pixel);
    }
}
#else
static int has_vbmi(void) { return 0; }
#define enlarge_row_vbmi enlarge_row
#define blend_row_vbmi blend_row
#endif

/* A row of the map, enlarged to the width of the frame, and its largest and smallest values in each block. */
typedef struct {
    int16_t *values, *highest, *lowest;
} enlarged_row;

INLINE void find_extremes_of(const int16_t *values, int count, int16_t *highest, int16_t *lowest)
{
    int16_t high = values[0], low = values[0];
    for (int i = 0; i < count; i++) {
        high = values[i] > high ? values[i] : high;
        low = values[i] < low ? values[i] : low;
    }
    *highest = high;
    *lowest = low;
}

FASTEST
static void find_extremes(enlarged_row row, int width)
{
    int block = 0;
    for (; BLOCK * (block + 1) <= width; block++) /* a constant number of values is vectorized */
        find_extremes_of(row.values + BLOCK * block, BLOCK, row.highest + block, row.lowest + block);
    if (BLOCK * block < width)
        find_extremes_of(row.values + BLOCK * block, width % BLOCK, row.highest + block, row.lowest + block);
}

/* Enlarges a row of the map to the width of the frame. `padded` has room for the row and EDGE columns on each side. */
static void make_row(const struct painting *p, int number, int16_t *padded, enlarged_row result)
{
    number = number < 0 ? 0 : number < p->map_height ? number : p->map_height - 1;
    const uint8_t *row = p->map + (ptrdiff_t)number * p->map_width;
    for (int x = 0; x < p->map_width; x++)
        padded[x + EDGE] = row[x];
    for (int x = 0; x < EDGE; x++) {
        padded[x] = row[0];
        padded[p->map_width + EDGE + x] = row[p->map_width - 1];
    }
    (has_vbmi()   ? enlarge_row_vbmi
     : has_avx2() ? enlarge_row_avx2
                  : enlarge_row)(padded + EDGE, p->columns, p->column_weights, p->width, result.values);
    find_extremes(result, p->width);
}

/* How a plane is blended: its mixtures as they are, and their factors, then their colors, in bytes. */
typedef struct {
    const uint16_t *mixtures;
    uint8_t tables[512];
    int first; /* lower values leave pixels as they are */
} palette;

static void fill_palette(const uint16_t *mixtures, palette *result)
{
    result->mixtures = mixtures;
    for (result->first = 0; result->first < 256 && mixtures[result->first] == UNCHANGED;)
        result->first++;
    for (int i = 0; i < 256; i++) {
        result->tables[i] = mixtures[i] & 255;
        result->tables[256 + i] = mixtures[i] >> 8;
    }
}

/* Blends `count` pixels of a plane from column `x` of row `y` on; without values, copies them. */
static void paint_row(const struct painting *p, int plane, int y, int x, int count, const uint8_t *values,
                      const palette *colors)
{
    const uint8_t *pixels = p->planes[plane] + y * p->strides[plane] + x;
    uint8_t *result = p->results[plane] + y * p->result_strides[plane] + x;
    if (!values || colors->first > 255)
        memcpy(result, pixels, count);
    else if (has_vbmi())
        blend_row_vbmi(pixels, values, colors->mixtures, colors->first, count, result);
    else if (has_avx2())
        blend_row_avx2(pixels, values, colors->tables, colors->first, count, result);
    else
        blend_row(pixels, values, colors->mixtures, colors->first, count, result);
}

/* The four rows of the enlarged map that a row of the frame is mixed from, and their weights. */
typedef struct {
    enlarged_row rows[4];
    const int16_t *weights;
} mixed_row;

static void mix_part(const mixed_row *mixed, int x, int count, uint8_t *values)
{
    const int16_t *from[4];
    for (int i = 0; i < 4; i++)
        from[i] = mixed->rows[i].values + x;
    mix_enlarged(from, mixed->weights, count, values);
}

/* Finds upper bounds of the values in each block: rows with negative weights add most where they are lowest. */
static void bound_blocks(const mixed_row *mixed, int blocks, uint8_t *bounds)
{
    const int16_t *from[4];
    for (int i = 0; i < 4; i++)
        from[i] = mixed->weights[i] < 0 ? mixed->rows[i].lowest : mixed->rows[i].highest;
    mix_enlarged(from, mixed->weights, blocks, bounds);
}

/* Paints `count` columns of two rows of luma and of one of chroma while their values are in the cache. `values` has
 * room for three rows of values; without it, the pixels are copied. */
static void paint_rows(const struct painting *p, const mixed_row *mixed, int y, int x, int count,
                       const palette *palettes, uint8_t *values)
{
    int step = p->width + GAP;
    uint8_t *half = values ? values + 2 * step : NULL;
    for (int i = 0; i < 2; i++) {
        uint8_t *row = values ? values + i * step : NULL;
        if (values)
            mix_part(mixed + i, x, count, row);
        paint_row(p, 0, y + i, x, count, row, palettes);
    }
    if (values)
        (has_avx2() ? halve_avx2 : halve)(values, values + step, count / 2, half);
    for (int plane = 1; plane < 3; plane++)
        paint_row(p, plane, y / 2, x / 2, count / 2, half, palettes + plane);
}

/* Paints two rows of luma at a time. Of blocks in which no value changes a pixel, no values are computed. */
EXPORT void paint(const struct painting *p)
{
    palette palettes[3];
    int lowest = 256, made = -EDGE - 1, step = p->width + GAP, blocks = (p->width + BLOCK - 1) / BLOCK;
    for (int plane = 0; plane < 3; plane++) {
        fill_palette(p->mixtures[plane], palettes + plane);
        lowest = palettes[plane].first < lowest ? palettes[plane].first : lowest;
    }
    int16_t *padded = p->scratch, *next = padded + p->map_width + 2 * EDGE + GAP;
    enlarged_row enlarged[ROWS];
    for (int i = 0; i < ROWS; i++, next += step + 2 * blocks)
        enlarged[i] = (enlarged_row){next, next + step, next + step + blocks};
    uint8_t *values = (uint8_t *)next, *bounds[2] = {values + 3 * step, values + 3 * step + blocks};
    for (int y = 0; y < p->height; y += 2) {
        mixed_row mixed[2];
        for (int i = 0; i < 2; i++) {
            mixed[i].weights = p->row_weights + 4 * (y + i);
            for (int k = 0; k < 4; k++) {
                int number = p->rows[y + i] + k;
                for (; made < number; made++)
                    make_row(p, made + 1, padded, enlarged[(made + 1 + EDGE) % ROWS]);
                mixed[i].rows[k] = enlarged[(number + EDGE) % ROWS];
            }
            bound_blocks(mixed + i, blocks, bounds[i]);
        }
        for (int i = 0; i < blocks; i++)
            bounds[0][i] = bounds[0][i] > bounds[1][i] ? bounds[0][i] : bounds[1][i];
        for (int block = 0; block < blocks;) { /* consecutive blocks that are all blended, or all copied */
            int x = BLOCK * block, drawn = bounds[0][block] >= lowest;
            while (block < blocks && (bounds[0][block] >= lowest) == drawn)
                block++;
            int count = (BLOCK * block < p->width ? BLOCK * block : p->width) - x;
            paint_rows(p, mixed, y, x, count, palettes, drawn ? values : NULL);
        }
    }
}

/* ---- overlays on RGB ------------------------------------------------------------------------------------------- */

/* Blends pixels with the colors of their values. `mixtures` has four bytes by value: the pixel's factor, times 255, and
 * the color to add. */
FASTEST
static void blend_pixels(const uint8_t *image, const uint8_t *values, const uint8_t *mixtures, int count,
                         uint8_t *result)
{
    uint8_t kept[3 * BLOCK], colors[3 * BLOCK];
    for (int i = 0; i < count; i++) {
        const uint8_t *mixture = mixtures + 4 * values[i];
        for (int c = 0; c < 3; c++) {
            kept[3 * i + c] = mixture[0];
            colors[3 * i + c] = mixture[1 + c];
        }
    }
    for (int i = 0; i < 3 * count; i++) {
        uint16_t product = image[i] * kept[i] + 128;
        product = (uint16_t)(product + (product >> 8)) >> 8; /* divided by 255, rounded */
        uint16_t sum = product + colors[i];
        result[i] = sum < 255 ? sum : 255;
    }
}

#if defined(__x86_64__)
/* The pixel that each byte of 64 pixels belongs to. */
static const uint8_t thirds[3 * BLOCK] = {
    0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11,
    11, 12, 12, 12, 13, 13, 13, 14, 14, 14, 15, 15, 15, 16, 16, 16, 17, 17, 17, 18, 18, 18, 19, 19, 19, 20, 20, 20,
    21, 21, 21, 22, 22, 22, 23, 23, 23, 24, 24, 24, 25, 25, 25, 26, 26, 26, 27, 27, 27, 28, 28, 28, 29, 29, 29, 30,
    30, 30, 31, 31, 31, 32, 32, 32, 33, 33, 33, 34, 34, 34, 35, 35, 35, 36, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39,
    39, 40, 40, 40, 41, 41, 41, 42, 42, 42, 43, 43, 43, 44, 44, 44, 45, 45, 45, 46, 46, 46, 47, 47, 47, 48, 48, 48,
    49, 49, 49, 50, 50, 50, 51, 51, 51, 52, 52, 52, 53, 53, 53, 54, 54, 54, 55, 55, 55, 56, 56, 56, 57, 57, 57, 58,
    58, 58, 59, 59, 59, 60, 60, 60, 61, 61, 61, 62, 62, 62, 63, 63, 63};

/* The same for 64 pixels, which are three vectors. `tables` has those of the factor and of the three colors. */
VBMI INLINE void blend_pixels_vbmi(const uint8_t *image, const uint8_t *values, const __m512i (*tables)[4],
                                   uint8_t *result)
{
    const __m512i zero = _mm512_setzero_si512(), value = _mm512_loadu_si512(values);
    for (int part = 0; part < 3; part++) {
        __m512i at = _mm512_loadu_si512(thirds + 64 * part), pixel = _mm512_loadu_si512(image + 64 * part);
        __m512i wide = _mm512_permutexvar_epi8(at, value), factor = look_up(tables[0], wide);
        __m512i color = look_up(tables[1 + (64 * part) % 3], wide);
        for (int next = 1; next < 3; next++) { /* every third byte, from byte `next` */
            __m512i other = look_up(tables[1 + (64 * part + next) % 3], wide);
            color = _mm512_mask_mov_epi8(color, 0x9249249249249249ull << next, other);
        }
        __m512i low = scaled(_mm512_unpacklo_epi8(pixel, zero), _mm512_unpacklo_epi8(factor, zero));
        __m512i high = scaled(_mm512_unpackhi_epi8(pixel, zero), _mm512_unpackhi_epi8(factor, zero));
        _mm512_storeu_si512(result + 64 * part, _mm512_adds_epu8(_mm512_packus_epi16(low, high), color));
    }
}

/* Blends whole blocks of an RGB image, and returns the number of pixels in them. */
VBMI static ptrdiff_t blend_blocks(const uint8_t *image, const uint8_t *values, const uint8_t *mixtures, int first,
                                   ptrdiff_t pixels, uint8_t *result)
{
    uint8_t columns[4][256];
    for (int i = 0; i < 4 * 256; i++)
        columns[i % 4][i / 4] = mixtures[i];
    __m512i tables[4][4];
    for (int i = 0; i < 16; i++)
        tables[i / 4][i % 4] = _mm512_loadu_si512(columns[i / 4] + 64 * (i % 4));
    ptrdiff_t x = 0;
    for (; x + BLOCK <= pixels; x += BLOCK) {
        if (_mm512_cmpge_epu8_mask(_mm512_loadu_si512(values + x), _mm512_set1_epi8((char)first)))
            blend_pixels_vbmi(image + 3 * x, values + x, tables, result + 3 * x);
        else
            memcpy(result + 3 * x, image + 3 * x, 3 * BLOCK);
    }
    return x;
}
#else
static ptrdiff_t blend_blocks(const uint8_t *image, const uint8_t *values, const uint8_t *mixtures, int first,
                              ptrdiff_t pixels, uint8_t *result)
{
    (void)image, (void)values, (void)mixtures, (void)first, (void)pixels, (void)result;
    return 0;
}
#endif

/* Blends an RGB image. Values below `first`, at most 255, change nothing. The rows of all arrays are adjacent. */
EXPORT void blend(const uint8_t *image, const uint8_t *values, const uint8_t *mixtures, int first, ptrdiff_t pixels,
                  uint8_t *result)
{
    ptrdiff_t x = has_vbmi() ? blend_blocks(image, values, mixtures, first, pixels, result) : 0;
    for (; x < pixels; x += BLOCK) {
        int count = pixels - x < BLOCK ? (int)(pixels - x) : BLOCK;
        if (largest(values + x, count) < first)
            memcpy(result + 3 * x, image + 3 * x, 3 * count);
        else
            blend_pixels(image + 3 * x, values + x, mixtures, count, result + 3 * x);
    }
}
