/* The sums of the weighted F-measure (Margolin et al., CVPR 2014) that need the distance of pixels from the mask.
 *
 * The nearest pixel of the mask is needed only for pixels outside it where p is above 0, and for those in reach of the
 * Gaussian. For these, columns are visited outward until no nearer pixel is possible, which costs as much time as the
 * pixel is far from the mask. `weighted_f.py` has the same sums without this file, and defines the arguments.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Changes with the arguments of `weighted_f_sums`; must match `weighted_f.py`. */
const int32_t version = 1;

enum { RADIUS = 3, TAPS = 2 * RADIUS + 1, NONE = 10000, LANES = 16 };

/* A width rounded up to a multiple of LANES. */
static size_t padded_to_lanes(int width) { return (size_t)(width + LANES - 1) / LANES * LANES; }

/* For each pixel, the distance to the nearest pixel of the mask in its column, and the row of that pixel: the upper one
 * of two. NONE: the column has none. */
static void columns(const uint8_t *mask, int height, int width, int16_t *distance, int16_t *nearest)
{
    for (int x = 0; x < width; x++)
        nearest[x] = mask[x] ? 0 : -NONE;
    for (int y = 1; y < height; y++) {
        const uint8_t *in = mask + (size_t)y * width;
        int16_t *row = nearest + (size_t)y * width, *above = row - width;
        for (int x = 0; x < width; x++) {
            int16_t inside = (int16_t)-in[x]; /* all bits or none; compilers do not vectorize the condition */
            row[x] = (int16_t)((y & inside) | (above[x] & ~inside));
        }
    }
    for (int y = height - 1; y >= 0; y--) {
        int16_t *row = nearest + (size_t)y * width, *result = distance + (size_t)y * width;
        /* The row below holds the nearest rows of both directions by now. Those that are not below this row are above
         * it, and already in this row. */
        int16_t *next = y + 1 < height ? row + width : row;
        for (int x = 0; x < width; x++) {
            int16_t up = (int16_t)(y - row[x]), down = (int16_t)(next[x] - y);
            up = up < NONE ? up : NONE;
            down = down > 0 ? down : NONE;
            row[x] = down < up ? next[x] : row[x];
            result[x] = down < up ? down : up;
        }
    }
}

/* The squared distance of a pixel from the mask and, in `column`, the column of its nearest pixel: the leftmost one.
 * `distance` is that of its row, with `width` times NONE at both sides. */
static int nearest_pixel(const int16_t *distance, int width, int x, int *column)
{
    int best = distance[x] * distance[x], found = x;
    for (int d = 1; d * d <= best && d < width; d++) {
        int left = distance[x - d], right = distance[x + d];
        int of_left = d * d + left * left, of_right = d * d + right * right;
        if (of_left <= best) /* always left of what was found before */
            best = of_left, found = x - d;
        if (of_right < best)
            best = of_right, found = x + d;
    }
    *column = found;
    return best;
}

/* 1 where a pixel is within RADIUS rows and columns of the mask. */
static void reach(const uint8_t *mask, int height, int width, uint8_t *rows, uint8_t *reached)
{
    for (int y = 0; y < height; y++) {
        memset(rows + y * width, 0, width);
        for (int k = -RADIUS; k <= RADIUS; k++)
            for (int x = k < 0 ? -k : 0; x < (k < 0 ? width : width - k); x++)
                rows[y * width + x] |= mask[y * width + x + k];
    }
    memset(reached, 0, (size_t)height * width);
    for (int y = 0; y < height; y++)
        for (int k = y < RADIUS ? -y : -RADIUS; k <= RADIUS && y + k < height; k++)
            for (int x = 0; x < width; x++)
                reached[y * width + x] |= rows[(y + k) * width + x];
}

/* The sum over the mask of the smaller one of a pixel's error and the mean error around it. `sums` has a row's pixels
 * with RADIUS zeros at both sides, `means` a row's pixels and zeros up to a multiple of LANES. */
static double sum_missed(const uint8_t *mask, const float *errors, const float *gauss, int height, int width,
                         float *sums, float *means)
{
    double total = 0;
    memset(sums, 0, (width + 2 * RADIUS) * sizeof *sums);
    for (int y = 0; y < height; y++) {
        const uint8_t *row = mask + (size_t)y * width;
        const float *error = errors + (size_t)y * width;
        if (!memchr(row, 1, width))
            continue;
        memset(sums + RADIUS, 0, width * sizeof *sums);
        for (int k = y < RADIUS ? -y : -RADIUS; k <= RADIUS && y + k < height; k++)
            for (int x = 0; x < width; x++)
                sums[x + RADIUS] += gauss[k + RADIUS] * error[k * width + x];
        memset(means, 0, padded_to_lanes(width) * sizeof *means);
        for (int k = 0; k < TAPS; k++)
            for (int x = 0; x < width; x++)
                means[x] += gauss[k] * sums[x + k];
        for (int x = 0; x < width; x++) {
            float smaller = error[x] < means[x] ? error[x] : means[x];
            means[x] = smaller * row[x];
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
 * `mask` holds 0 and 1; `levels` is p of each 8-bit value; `rate` is the logarithm of the closeness one pixel away;
 * `far` is the distance from which the closeness is taken as 0. Sides are below NONE. Returns 0, or 1 without
 * memory. */
int weighted_f_sums(const uint8_t *prediction, const uint8_t *mask, int height, int width, const float *levels,
                    const float *gauss, float rate, int far, double *close, double *missed)
{
    size_t pixels = (size_t)height * width;
    int limit = far * far;
    float *closeness = malloc((limit + 1) * sizeof(float)), *errors = malloc(pixels * sizeof(float));
    float *sums = malloc((width + 2 * RADIUS) * sizeof(float)), *means = malloc(padded_to_lanes(width) * sizeof(float));
    int16_t *distance = malloc(pixels * sizeof(int16_t)), *nearest = malloc(pixels * sizeof(int16_t));
    int16_t *padded = malloc(3 * width * sizeof(int16_t));
    uint8_t *rows = malloc(pixels), *reached = malloc(pixels);
    int failed = !closeness || !errors || !sums || !means || !padded || !distance || !nearest || !rows || !reached;
    if (!failed) {
        for (int squared = 0; squared <= limit; squared++)
            closeness[squared] = -1; /* not yet computed */
        columns(mask, height, width, distance, nearest);
        reach(mask, height, width, rows, reached);
        for (int x = 0; x < 3 * width; x++)
            padded[x] = NONE;
        double total = 0;
        for (int y = 0; y < height; y++) {
            memcpy(padded + width, distance + (size_t)y * width, width * sizeof *padded);
            for (int x = 0; x < width; x++) {
                size_t at = (size_t)y * width + x;
                float p = levels[prediction[at]];
                errors[at] = 1 - p;
                if (mask[at] || !(p > 0 || reached[at]))
                    continue;
                int column, squared = nearest_pixel(padded + width, width, x, &column);
                if (reached[at]) {
                    size_t row = nearest[(size_t)y * width + column];
                    errors[at] = 1 - levels[prediction[row * width + column]];
                }
                if (squared > limit)
                    continue;
                if (closeness[squared] < 0)
                    closeness[squared] = expf(sqrtf((float)squared) * rate);
                total += p * closeness[squared];
            }
        }
        *close = total;
        *missed = sum_missed(mask, errors, gauss, height, width, sums, means);
    }
    free(closeness), free(errors), free(sums), free(means);
    free(padded), free(distance), free(nearest), free(rows), free(reached);
    return failed;
}
