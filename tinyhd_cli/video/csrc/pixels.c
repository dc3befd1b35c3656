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

/* Changes with the arguments of the functions; must match `pixels.py`. */
EXPORT const int32_t version = 1;

/* Number of pixels whose factors and colors are looked up at a time. */
enum { BLOCK = 64 };

/* The mixture that does not change a pixel: a factor of 1, and no color. */
enum { UNCHANGED = 255 };

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

/* Resizes an RGB image bilinearly, and normalizes it, to planes of floats. `row` has room for a row of the image. */
EXPORT void resize(const uint8_t *image, ptrdiff_t stride, int pixels, const neighbors *rows, int height,
                   const neighbors *columns, int width, const float *factors, const float *shifts, float *row,
                   float *result)
{
    for (int y = 0; y < height; y++) {
        const uint8_t *upper = image + rows->first[y] * stride, *lower = image + rows->second[y] * stride;
        mix_rows(upper, lower, rows->weights[y], 3 * pixels, row);
        for (int c = 0; c < 3; c++) {
            float *plane = result + (ptrdiff_t)c * height * width;
            mix_columns(row + c, *columns, width, factors[c], shifts[c], plane + (ptrdiff_t)y * width);
        }
    }
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

/* Blends each pixel with the color of its value. `mixtures`, by value: the factor of the pixel, times 255, in the lower
 * byte; the color, times its opacity, in the upper byte. */
EXPORT void blend(const uint8_t *pixels, ptrdiff_t stride, const uint8_t *values, ptrdiff_t values_stride,
                  const uint16_t *mixtures, uint8_t *result, ptrdiff_t result_stride, int width, int height)
{
    uint16_t mixture[BLOCK];
    int first = 0; /* value that changes pixels; usually, lower ones leave them as they are */
    while (first < 256 && mixtures[first] == UNCHANGED)
        first++;
    for (int y = 0; y < height; y++) {
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
        pixels += stride, values += values_stride, result += result_stride;
    }
}
