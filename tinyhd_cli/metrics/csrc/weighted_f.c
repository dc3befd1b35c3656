/* The sums of the weighted F-measure (Margolin et al., CVPR 2014) that need the distance of pixels from the mask.
 *
 * The nearest pixel of the mask is needed only for pixels outside it where p is above 0, and for those in reach of the
 * Gaussian. For LANES of these at a time, columns are visited outward until no nearer pixel is possible, which takes
 * longer the farther the pixels are from the mask. `weighted_f.py` has the same sums without this file, and defines the
 * arguments.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The closeness to the mask is taken as 0 beyond FAR pixels. Twice the square of FAR + 1 fits in 16 bits. */
enum { FAR = 120, BEYOND = (FAR + 1) * (FAR + 1), RADIUS = 3, TAPS = 2 * RADIUS + 1, NONE = 10000 };
enum { LANES = 16, STEPS = 4 };

#define INLINE static inline __attribute__((always_inline))

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif

/* Compiles a function also for CPUs with AVX2. The choice between both is made when the library is loaded, which needs
 * glibc; Clang changes the function's name. On ARM, the only version has NEON. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define FOR_NEWER_CPUS_TOO __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FOR_NEWER_CPUS_TOO
#endif

/* Changes with the arguments of `weighted_f_sums`; must match `weighted_f.py`. */
EXPORT const int32_t version = 2;

/* Arrays of one frame of `height` x `width` pixels. */
typedef struct {
    int height, width;
    const uint8_t *prediction, *mask;
    float *errors;              /* 1 - p; near the mask, that of the nearest pixel of the mask */
    int16_t *squared, *nearest; /* distance from the mask in the same column, squared, at most BEYOND; and its row */
    uint8_t *reached;           /* 1 where a pixel is within RADIUS rows and columns of the mask */
    float *closeness;           /* by squared distance; -1: not yet computed */
    float *sums, *means;        /* a row, and RADIUS or LANES more on both sides */
    float *nothing;             /* a row of zeros */
    int16_t *padded;            /* a row, and FAR + STEPS + LANES more on both sides */
    uint8_t *wanted;            /* a row, and LANES more */
} frame;

enum { SIDE = FAR + STEPS + LANES };

/* Lets the arrays point into one block of memory, or measures it if `memory` is NULL. Returns its size in bytes. */
static size_t place_arrays(frame *f, char *memory)
{
    size_t pixels = (size_t)f->height * f->width, row = (size_t)f->width + 2 * SIDE, used = 0;
#define PLACE(name, count)                                                                                             \
    f->name = memory ? (void *)(memory + used) : NULL;                                                                 \
    used += ((count) * sizeof *f->name + 63) / 64 * 64
    PLACE(errors, pixels);
    PLACE(squared, pixels);
    PLACE(nearest, pixels);
    PLACE(reached, pixels);
    PLACE(closeness, FAR * FAR + 1);
    PLACE(sums, row);
    PLACE(means, row);
    PLACE(nothing, row);
    PLACE(padded, row);
    PLACE(wanted, row);
#undef PLACE
    return used;
}

/* Finds the nearest pixel of the mask in each pixel's column: the upper one of two. NONE: the column has none. */
INLINE void search_columns(const frame *f)
{
    int height = f->height, width = f->width;
    for (int x = 0; x < width; x++)
        f->nearest[x] = f->mask[x] ? 0 : -NONE;
    for (int y = 1; y < height; y++) {
        const uint8_t *in = f->mask + (size_t)y * width;
        int16_t *row = f->nearest + (size_t)y * width, *above = row - width;
        for (int x = 0; x < width; x++) {
            int16_t inside = (int16_t)-in[x]; /* all bits or none; compilers do not vectorize the condition */
            row[x] = (int16_t)((y & inside) | (above[x] & ~inside));
        }
    }
    for (int y = height - 1; y >= 0; y--) {
        int16_t *row = f->nearest + (size_t)y * width, *result = f->squared + (size_t)y * width;
        /* The row below holds the nearest rows of both directions by now. Those that are not below this row are above
         * it, and already in this row. */
        int16_t *next = y + 1 < height ? row + width : row;
        for (int x = 0; x < width; x++) {
            int16_t up = (int16_t)(y - row[x]), down = (int16_t)(next[x] - y);
            up = up < NONE ? up : NONE;
            down = down > 0 ? down : NONE;
            row[x] = down < up ? next[x] : row[x];
            int16_t distance = down < up ? down : up;
            distance = distance <= FAR ? distance : FAR + 1;
            result[x] = (int16_t)(distance * distance);
        }
    }
}

INLINE void mark_reached(const frame *f)
{
    int height = f->height, width = f->width;
    uint8_t *row = f->wanted; /* not yet needed */
    memset(f->reached, 0, (size_t)height * width);
    for (int y = 0; y < height; y++) {
        const uint8_t *in = f->mask + (size_t)y * width;
        if (!memchr(in, 1, (size_t)width))
            continue;
        memcpy(row, in, (size_t)width);
        for (int k = 1; k <= RADIUS && k < width; k++) {
            for (int x = 0; x < width - k; x++)
                row[x] |= in[x + k];
            for (int x = k; x < width; x++)
                row[x] |= in[x - k];
        }
        for (int near = y < RADIUS ? 0 : y - RADIUS; near <= y + RADIUS && near < height; near++)
            for (int x = 0; x < width; x++)
                f->reached[(size_t)near * width + x] |= row[x];
    }
}

/* For LANES pixels from column x on, finds the squared distance from the mask, and how many columns to the right its
 * nearest pixel is: the leftmost one. Right only where `wanted` is 1 and the distance is at most FAR. */
INLINE void search_row(const frame *f, int x, int16_t *best, int16_t *columns)
{
    const int16_t *here = f->padded + SIDE + x;
    for (int lane = 0; lane < LANES; lane++) {
        best[lane] = f->wanted[x + lane] ? here[lane] : 0; /* 0 ends the search at once */
        columns[lane] = 0;
    }
    for (int first = 1; first <= FAR; first += STEPS) {
        int16_t farthest = 0;
        for (int lane = 0; lane < LANES; lane++)
            farthest = best[lane] > farthest ? best[lane] : farthest;
        if (first * first > farthest)
            return;
        for (int16_t d = (int16_t)first; d < first + STEPS; d++) { /* a step too many changes nothing */
            int16_t square = (int16_t)(d * d);
            for (int lane = 0; lane < LANES; lane++) {
                int16_t of_left = (int16_t)(square + here[lane - d]), of_right = (int16_t)(square + here[lane + d]);
                columns[lane] = of_left <= best[lane] ? (int16_t)-d : columns[lane]; /* left of all before */
                best[lane] = of_left <= best[lane] ? of_left : best[lane];
                columns[lane] = of_right < best[lane] ? d : columns[lane];
                best[lane] = of_right < best[lane] ? of_right : best[lane];
            }
        }
    }
}

/* Fills `errors` as far as they are needed. Returns the sum of p times the closeness to the mask, outside it. */
INLINE double sum_close(const frame *f, const float *levels, float rate)
{
    float missing[256];
    int width = f->width, zero = -1; /* the largest value with p = 0 */
    for (int value = 0; value < 256; value++) {
        missing[value] = 1 - levels[value];
        zero = levels[value] > 0 ? zero : value;
    }
    double total = 0;
    for (int y = 0; y < f->height; y++) {
        size_t start = (size_t)y * width;
        const uint8_t *values = f->prediction + start, *inside = f->mask + start, *near = f->reached + start;
        float *error = f->errors + start;
        if (memchr(near, 1, (size_t)width))
            for (int x = 0; x < width; x++)
                error[x] = missing[values[x]];
        for (int x = 0; x < width; x++)
            f->wanted[x] = (inside[x] ^ 1) & ((values[x] > zero) | near[x]);
        if (!memchr(f->wanted, 1, (size_t)width))
            continue;
        memcpy(f->padded + SIDE, f->squared + start, (size_t)width * sizeof *f->padded);
        for (int x = 0; x < width; x += LANES) {
            if (!memchr(f->wanted + x, 1, LANES))
                continue;
            int16_t squared[LANES], columns[LANES];
            search_row(f, x, squared, columns);
            for (int lane = 0; lane < LANES; lane++) {
                if (!f->wanted[x + lane] || squared[lane] > FAR * FAR)
                    continue;
                if (near[x + lane]) {
                    int column = x + lane + columns[lane];
                    error[x + lane] = missing[f->prediction[(size_t)f->nearest[start + column] * width + column]];
                }
                float *close = f->closeness + squared[lane];
                if (*close < 0)
                    *close = expf(sqrtf((float)squared[lane]) * rate);
                total += levels[values[x + lane]] * *close;
            }
        }
    }
    return total;
}

/* Returns the sum over the mask of the smaller one of a pixel's error and the mean error around it. */
INLINE double sum_missed(const frame *f, const float *gauss)
{
    int height = f->height, width = f->width;
    float *restrict sums = f->sums, *restrict means = f->means;
    double total = 0;
    for (int y = 0; y < height; y++) {
        const uint8_t *row = f->mask + (size_t)y * width, *start = memchr(row, 1, (size_t)width);
        const float *error = f->errors + (size_t)y * width, *rows[TAPS];
        if (!start)
            continue;
        int first = (int)(start - row), last = width;
        while (!row[last - 1])
            last--;
        int from = first > RADIUS ? first - RADIUS : 0, to = last + RADIUS < width ? last + RADIUS : width;
        for (int k = 0; k < TAPS; k++)
            rows[k] = y + k < RADIUS || y + k - RADIUS >= height ? f->nothing : error + (k - RADIUS) * width;
        memset(sums, 0, (size_t)(width + 2 * RADIUS) * sizeof *sums);
        for (int x = from; x < to; x++) /* written out, so that compilers process several x at once */
            sums[x + RADIUS] = gauss[0] * rows[0][x] + gauss[1] * rows[1][x] + gauss[2] * rows[2][x] +
                               gauss[3] * rows[3][x] + gauss[4] * rows[4][x] + gauss[5] * rows[5][x] +
                               gauss[6] * rows[6][x];
        memset(means, 0, (size_t)(width + LANES) * sizeof *means);
        for (int x = first; x < last; x++) {
            const float *sum = sums + x;
            float mean = gauss[0] * sum[0] + gauss[1] * sum[1] + gauss[2] * sum[2] + gauss[3] * sum[3] +
                         gauss[4] * sum[4] + gauss[5] * sum[5] + gauss[6] * sum[6];
            means[x] = (error[x] < mean ? error[x] : mean) * row[x];
        }
        float parts[LANES] = {0};
        for (int x = 0; x < width; x += LANES) /* separate sums, because a single one would wait for each addition */
            for (int lane = 0; lane < LANES; lane++)
                parts[lane] += means[x + lane];
        for (int lane = 0; lane < LANES; lane++)
            total += parts[lane];
    }
    return total;
}

/* Computes the sum of p times the closeness to the mask, outside it; and the missed errors, see `sum_missed`.
 * `mask` holds 0 and 1; `levels` is p of each 8-bit value; `rate` is the logarithm of the closeness one pixel away.
 * Sides are below NONE. Returns 0, or 1 without memory. */
EXPORT FOR_NEWER_CPUS_TOO int
weighted_f_sums(const uint8_t *prediction, const uint8_t *mask, int height, int width, const float *levels,
                const float *gauss, float rate, double *close, double *missed)
{
    frame f = {.height = height, .width = width, .prediction = prediction, .mask = mask};
    char *memory = malloc(place_arrays(&f, NULL));
    if (!memory)
        return 1;
    place_arrays(&f, memory);
    for (int squared = 0; squared <= FAR * FAR; squared++)
        f.closeness[squared] = -1;
    for (int x = 0; x < width + 2 * SIDE; x++)
        f.padded[x] = BEYOND, f.nothing[x] = 0;
    search_columns(&f);
    mark_reached(&f);
    memset(f.wanted, 0, (size_t)width + 2 * SIDE);
    *close = sum_close(&f, levels, rate);
    *missed = sum_missed(&f, gauss);
    free(memory);
    return 0;
}
