/* Vectors of the instruction sets that the kernels are compiled for, by GCC or Clang; other compilers have no vector
 * extensions.
 *
 * `number` is the type of all tensors: float, or half precision on CPUs with AVX-512 FP16, which compute twice as many
 * of them at a time. `vector` is a register of numbers. `floats` is a vector of single precision, of all LANES numbers
 * or half of them.
 */
#include <stdint.h>

#if defined(__AVX512FP16__)
#include <immintrin.h>
#define LANES 32
#define FLOATS 16
#elif defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#elif defined(__aarch64__)
#include <arm_neon.h>
#define LANES 4
#else
#error "the kernels need AVX-512, AVX2 or NEON"
#endif

#if LANES == 32
typedef _Float16 number;
typedef int16_t whole;
#else
#define FLOATS LANES
typedef float number;
typedef int32_t whole;
#endif

#define INLINE static inline __attribute__((always_inline))

typedef number vector __attribute__((vector_size(sizeof(number) * LANES)));
typedef number unaligned __attribute__((vector_size(sizeof(number) * LANES), aligned(sizeof(number)), may_alias));
typedef float floats __attribute__((vector_size(4 * FLOATS)));
typedef float unaligned_floats __attribute__((vector_size(4 * FLOATS), aligned(4), may_alias));
typedef int32_t integers __attribute__((vector_size(4 * FLOATS)));
typedef number narrow __attribute__((vector_size(sizeof(number) * FLOATS), aligned(sizeof(number)), may_alias));

INLINE vector load(const number *from) { return *(const unaligned *)from; }
INLINE void store(number *to, vector v) { *(unaligned *)to = v; }
INLINE vector broadcast(number value) { return value - (vector){0}; } /* `value + 0` would turn -0 into 0 */

INLINE floats load_floats(const float *from) { return *(const unaligned_floats *)from; }
INLINE void store_floats(float *to, floats v) { *(unaligned_floats *)to = v; }
INLINE floats broadcast_float(float value) { return value - (floats){0}; }

/* Convert FLOATS numbers. */
#if LANES == 32 /* GCC 12 converts lane by lane */
INLINE floats widen(const number *from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from)); }
INLINE void narrow_to(number *to, floats v) {
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
#else
INLINE floats widen(const number *from) { return __builtin_convertvector(*(const narrow *)from, floats); }
INLINE void narrow_to(number *to, floats v) { *(narrow *)to = __builtin_convertvector(v, narrow); }
#endif

/* Lanes of two vectors of floats, by number. GCC before version 12 does not know the function of Clang. */
#if defined(__clang__)
#define LANES_OF(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define LANES_OF(a, b, ...) __builtin_shuffle(a, b, (integers){__VA_ARGS__})
#endif

/* `interleave`: interleave the lanes of two vectors. `from_second`: the vector from lane 1 of `a` on, followed by `b`.
 * `from_last`: the vector from the last lane of `a` on. */
INLINE void interleave_floats(floats a, floats b, floats *low, floats *high) {
#if FLOATS == 16
    *low = LANES_OF(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *high = LANES_OF(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif FLOATS == 8
    *low = LANES_OF(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    *high = LANES_OF(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    *low = LANES_OF(a, b, 0, 4, 1, 5);
    *high = LANES_OF(a, b, 2, 6, 3, 7);
#endif
}

/* Separate the even and the odd lanes of two vectors. */
INLINE void separate(floats a, floats b, floats *even, floats *odd) {
#if FLOATS == 16
    *even = LANES_OF(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *odd = LANES_OF(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif FLOATS == 8
    *even = LANES_OF(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
    *odd = LANES_OF(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    *even = LANES_OF(a, b, 0, 2, 4, 6);
    *odd = LANES_OF(a, b, 1, 3, 5, 7);
#endif
}

#if LANES == 32

INLINE void interleave(vector a, vector b, vector *low, vector *high) {
    /* Within quarters of a register, then quarters of both. */
    __m512i even = _mm512_unpacklo_epi16((__m512i)a, (__m512i)b), odd = _mm512_unpackhi_epi16((__m512i)a, (__m512i)b);
    *low = (vector)_mm512_permutex2var_epi64(even, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), odd);
    *high = (vector)_mm512_permutex2var_epi64(even, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), odd);
}
INLINE vector from_second(vector a, vector b) {
    return (vector)_mm512_alignr_epi8(_mm512_alignr_epi64((__m512i)b, (__m512i)a, 2), (__m512i)a, 2);
}
INLINE vector from_last(vector a, vector b) {
    return (vector)_mm512_alignr_epi8((__m512i)b, _mm512_alignr_epi64((__m512i)b, (__m512i)a, 6), 14);
}

#else

INLINE void interleave(vector a, vector b, vector *low, vector *high) { interleave_floats(a, b, low, high); }
INLINE vector from_second(vector a, vector b) {
#if LANES == 16
    return LANES_OF(a, b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
#elif LANES == 8
    return LANES_OF(a, b, 1, 2, 3, 4, 5, 6, 7, 8);
#else
    return LANES_OF(a, b, 1, 2, 3, 4);
#endif
}
INLINE vector from_last(vector a, vector b) {
#if LANES == 16
    return LANES_OF(a, b, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30);
#elif LANES == 8
    return LANES_OF(a, b, 7, 8, 9, 10, 11, 12, 13, 14);
#else
    return LANES_OF(a, b, 3, 4, 5, 6);
#endif
}

#endif

INLINE floats clamp_floats(floats v, float low, float high) {
#if FLOATS == 16
    return _mm512_min_ps(_mm512_max_ps(v, broadcast_float(low)), broadcast_float(high));
#elif FLOATS == 8
    return _mm256_min_ps(_mm256_max_ps(v, broadcast_float(low)), broadcast_float(high));
#else
    return vminnmq_f32(vmaxnmq_f32(v, broadcast_float(low)), broadcast_float(high));
#endif
}

INLINE vector clamp(vector v, number low, number high) {
#if LANES == 32
    return (vector)_mm512_min_ph(_mm512_max_ph((__m512h)v, (__m512h)broadcast(low)), (__m512h)broadcast(high));
#else
    return clamp_floats(v, low, high);
#endif
}

/* Read the numbers at LANES indices, and those after them. An index is greater than the one before by at most 1/2 on
 * average, so that all of them fit into one register. */
INLINE void neighbors(const number *from, const whole *index, vector *these, vector *next) {
#if LANES == 32
    __m512i near = _mm512_loadu_si512(from + index[0]);
    __m512i at = _mm512_sub_epi16(_mm512_loadu_si512(index), _mm512_set1_epi16(index[0]));
    *these = (vector)_mm512_permutexvar_epi16(at, near);
    *next = (vector)_mm512_permutexvar_epi16(_mm512_add_epi16(at, _mm512_set1_epi16(1)), near);
#elif LANES == 16
    __m512 near = _mm512_loadu_ps(from + index[0]);
    __m512i at = _mm512_sub_epi32(_mm512_loadu_si512(index), _mm512_set1_epi32(index[0]));
    *these = _mm512_permutexvar_ps(at, near);
    *next = _mm512_permutexvar_ps(_mm512_add_epi32(at, _mm512_set1_epi32(1)), near);
#else
    for (int i = 0; i < LANES; i++) {
        (*these)[i] = from[index[i]];
        (*next)[i] = from[index[i] + 1];
    }
#endif
}
