/* Kernels for training inverted residuals: forward and backward passes of 1x1x1 and depthwise convolutions, with the
 * BatchNorm and the ReLU6 between them; and of the pixel shuffles and interpolations between blocks.
 *
 * Only the outputs of convolutions are in memory, before BatchNorm. A kernel normalizes and activates a stage's input
 * while it reads it, and sums its output for BatchNorm while that is in the cache. Backward passes likewise turn the
 * gradient of a normalized output into that of a convolution's while they read it, and sum the gradients that they
 * write. `training/block_kernels.py` calls the kernels and mirrors `struct stage`.
 *
 * Tensors are planes, (N, C, T, H, W) without gaps, in single, bfloat16 or double precision; bfloat16 is computed in
 * single precision. The order of all sums is independent of the number of threads.
 *
 * Compiled once for each instruction set.
 */
#include "vectors.h"

#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <malloc.h>
#define EXPORT __declspec(dllexport)
#define allocate(bytes) _aligned_malloc(bytes, 64)
#define release _aligned_free
#else
#define EXPORT
#define allocate(bytes) aligned_alloc(64, ((bytes) + 63) / 64 * 64)
#define release free
#endif

enum { POINTWISE, POINTWISE_GRADIENT, DEPTHWISE, DEPTHWISE_GRADIENT, STATISTICS, GRADIENT_SUMS, NORMALIZE };
enum { APPLY_GRADIENT = NORMALIZE + 1, SHUFFLE, SHUFFLE_GRADIENT, INTERPOLATE, INTERPOLATE_GRADIENT };
enum { SINGLE, BFLOAT16, DOUBLE };

/* Pixels that a 1x1x1 convolution processes at a time, and the distance of their rows, which differ by more than a
 * power of two so that they do not compete for the same sets of the L1 cache; pieces into which its pixels are divided,
 * each with its own sums; bytes of a band of rows of a depthwise convolution. */
enum { TILE = 256, STEP = TILE + 16, SLOTS = 16, BAND_BYTES = 768 << 10 };

/* Output channels of a product at a time, and columns of a group of 4 rows of a sum of products: as many sums as fit
 * into the registers, of which AVX2 has 16 and the others 32. */
#if FLOATS == 8
#define PART 6
#define COLUMNS 2
#else
#define PART 12
#define COLUMNS 4
#endif

/* One pass over the tensors of a stage: a convolution and its BatchNorm, or an upsampling. `real` is double in double
 * precision, else float. Pointers that an operation does not need are NULL. */
struct stage {
    const void *input;                /* of the convolution: [n][inputs][pixels_in] */
    const void *in_scale, *in_shift;  /* real[inputs]: BatchNorm of the input; NULL: the input is used as it is */
    const void *in_mean;              /* real[inputs] */
    const void *weight;               /* real[inputs][outputs], backward [outputs][inputs]; depthwise
                                         [inputs][taps * 9] */
    void *output;                     /* of the convolution: [n][outputs][pixels_out] */
    const void *gradient;             /* of the normalized (and activated) output: like `output` */
    const void *slope, *out_slope, *constant; /* real[outputs]: gradient of the output = slope * gradient + out_slope *
                                                 output + constant */
    const void *mask_scale, *mask_shift; /* real[outputs]: BatchNorm of the output, if the gradient must still pass
                                            ReLU6; else NULL */
    const void *added;                /* added to the result: like it, or NULL */
    void *result;                     /* normalized output, or gradient of the input */
    double *sums;                     /* forward: [slots or n][outputs][3], count, mean, sum of squared deviations;
                                         backward: [slots or n][inputs][2], sums of the result and of result * (input -
                                         in_mean) */
    void *weight_gradient;            /* real[slots][outputs][inputs]; depthwise [n][inputs][taps * 9] */
    int32_t operation, type;
    int32_t activated;                /* whether ReLU6 follows the BatchNorm of the input */
    int32_t count, inputs, outputs;   /* clips; channels */
    int32_t frames, height, width;    /* size of the input */
    int32_t frames_out, height_out, width_out;
    int32_t taps, padding, stride, space; /* of a depthwise kernel (taps, 3, 3): padding and stride in time; stride of
                                             both dimensions of a frame, padded by 1 */
    int32_t next;                     /* number of jobs started */
};

/* Must match `training/block_kernels.py`, which checks both. The version changes with the meaning of any operation or
 * field: a library of another version would compute something else. */
EXPORT const int32_t version = 2;
EXPORT const int32_t layout[] = {sizeof(struct stage), SLOTS, TILE};

/* Lanes 2i and 2i + 1 of `a`, then of `b`, added. */
INLINE floats add_float_pairs(floats a, floats b) {
    floats even, odd;
    separate(a, b, &even, &odd);
    return even + odd;
}

#define JOIN(a, b) a##b
#define NAMED(a, b) JOIN(a, b)
#define T(name) NAMED(name, SUFFIX)

#define SUFFIX _single
#define REAL float
#define STORED float
#define WHOLE int32_t
#include "training_stages.h"
#undef SUFFIX
#undef STORED

#define SUFFIX _bfloat16
#define STORED uint16_t
#define IS_BFLOAT16
#include "training_stages.h"
#undef IS_BFLOAT16
#undef SUFFIX
#undef STORED
#undef REAL
#undef WHOLE

#define SUFFIX _double
#define REAL double
#define STORED double
#define WHOLE int64_t
#define IS_DOUBLE
#include "training_stages.h"

/* Run a pass, together with all other threads that call this function. Return 0; 1 if memory is short; 2 if there is no
 * such operation. */
EXPORT int32_t run(struct stage *s) {
    if (s->operation < POINTWISE || s->operation > INTERPOLATE_GRADIENT) return 2;
    switch (s->type) {
    case SINGLE: return run_single(s);
    case BFLOAT16: return run_bfloat16(s);
    default: return run_double(s);
    }
}
