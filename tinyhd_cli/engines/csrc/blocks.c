/* Kernels for the full-resolution tail of TinyHD: inverted residuals, each in one pass, and the fusion of the maps.
 *
 * These layers have few channels and many pixels. An engine that runs one operation after another writes every
 * expanded, upsampled and filtered value to memory and reads it again. Here, a band of rows passes through a whole
 * block while it is in the cache. `fused.py` defines blocks and fills in the structures; `kernels.py` mirrors them.
 *
 * Tensors from the engine are (T, H, W, C), its internal layout. Tensors of this file are (C, T, H, W): the lanes of a
 * vector are pixels of a row, so channels need no padding.
 *
 * Compiled once for each instruction set, by GCC or Clang; other compilers have no vector extensions. The width must be
 * a multiple of 32, the height a multiple of 8.
 */
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
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

#if defined(_WIN32)
/* Declared here, because windows.h defines macros such as PLANES and near. */
__declspec(dllimport) int __stdcall SwitchToThread(void);
#define EXPORT __declspec(dllexport)
#define yield_thread SwitchToThread
#else
#include <sched.h>
#define EXPORT
#define yield_thread sched_yield
#endif

#define INLINE static inline __attribute__((always_inline))

/* Rows in a band; padding of a row; floats between channels; source rows that a band needs; limits of the structures;
 * frames times channels that are expanded at a time. Without GAP, all channels of a pixel would compete for the same
 * few sets of the L1 cache, because image sides are close to powers of two. */
enum { BAND = 8, EDGE = 16, GAP = 16, LOW_ROWS = BAND / 2 + 3, MAX_TAPS = 3, MAX_MAPS = 8, EXPANDED_PLANES = 72 };

/* Kinds of source: (C, T, H, W), the input of a pixel shuffle, the input of a trilinear interpolation. */
enum { PLANES, SHUFFLED, UPSAMPLED };

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t integers __attribute__((vector_size(4 * LANES)));
typedef float unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vector load(const float *from) { return *(const unaligned *)from; }
INLINE void store(float *to, vector v) { *(unaligned *)to = v; }
INLINE vector broadcast(float value) { return value - (vector){0}; } /* `value + 0` would turn -0 into 0 */

INLINE vector clamp(vector v, float low, float high) {
#if LANES == 16
    return _mm512_min_ps(_mm512_max_ps(v, broadcast(low)), broadcast(high));
#elif LANES == 4
    return vminnmq_f32(vmaxnmq_f32(v, broadcast(low)), broadcast(high));
#else
    return _mm256_min_ps(_mm256_max_ps(v, broadcast(low)), broadcast(high));
#endif
}

/* Interpolate linearly between two rows or frames. */
INLINE vector lerp(vector u, vector v, float fraction) { return u + (v - u) * fraction; }

struct block {
    const float *source;
    const float *added; /* NULL, or the input of a pixel shuffle that is added to the result */
    float *result;
    const float *expand, *expand_bias;       /* (channels, inner) */
    const float *depthwise, *depthwise_bias; /* (inner, taps, 3, 3) */
    const float *project, *project_bias;     /* (inner, outer) */
    int32_t kind, channels, inner, outer;
    int32_t source_frames, added_frames, frames_in, frames_out;
    int32_t taps, stride, padding;
    int32_t next, done; /* number of bands started and finished */
};

struct fusion {
    const float *maps[MAX_MAPS];
    float weights[MAX_MAPS];
    int32_t frames[MAX_MAPS]; /* 1 or frames_out */
    float *result;
    float bias;
    int32_t count, frames_out;
    int32_t next, done;
};

struct program {
    struct block *blocks;
    struct fusion fusion;
    int32_t count, height, width;
};

/* Layout constants; must match `kernels.py`, which checks them when it loads this library. */
EXPORT const int32_t layout[] = {
    sizeof(struct block), sizeof(struct fusion), sizeof(struct program), MAX_TAPS, MAX_MAPS, GAP};

/* A position on a smaller axis: between `index` and `index + 1`. */
struct position {
    int index;
    float fraction;
};

/* Map a position from a larger to a smaller axis with aligned corners, rounded like PyTorch. */
INLINE struct position source_position(int position, int small, int large) {
    if (small == large || large == 1) return (struct position){position, 0.0f};
    float scale = (float)(small - 1) / (float)(large - 1), exact = scale * (float)position;
    int index = (int)exact;
    return index >= small - 1 ? (struct position){small - 1, 0.0f} : (struct position){index, exact - (float)index};
}

/* A band of rows of a block, and the scratch memory of the thread that computes it. */
struct band {
    const struct block *b;
    int y0, height, width; /* first row of the band; size of the maps */
    int first, count;      /* range of inner channels that is computed now */
    int64_t area, step;    /* pixels of a frame; floats between rows of the ring */
    float *ring;           /* [taps][count][BAND + 2][EDGE + width + EDGE]: ring buffer of expanded frames */
    float *filtered;       /* [count][BAND * width + GAP] */
    float *line;           /* [width / 2][4 channels]: a row interpolated between two frames, in the engine's layout */
    float *tile;           /* [channels][width + GAP]: a source row */
    float *wide;           /* [count][width / 2 + EDGE]: the source row, expanded */
    float *low;            /* [2][count][LOW_ROWS][width]: expanded and widened source rows of two frames */
    float *mid_rows;       /* [LOW_ROWS][width]: these rows, interpolated between the two frames */
    float *fraction;       /* [width]: position of each pixel in a row of half the width, with `index` */
    int32_t *index;
    int low_frame[2];
};

/* Set the scratch pointers of a band, unless `memory` is NULL. Return the required number of 4-byte elements. */
static int64_t assign_scratch(struct band *w, float *memory) {
    const struct block *b = w->b;
    int64_t most = b->channels > b->outer ? b->channels : b->outer, n = EXPANDED_PLANES / b->taps, used = 0;
    if (n > b->inner) n = b->inner;
    w->count = n;
    w->step = w->width + 2 * EDGE;
    w->area = (int64_t)w->height * w->width;
    struct {
        float **at;
        int64_t size;
    } parts[] = {
        {&w->ring, b->taps * n * (BAND + 2) * w->step},
        {&w->filtered, n * (BAND * w->width + GAP)},
        {&w->line, w->width / 2 * 4 * most},
        {&w->tile, most * (w->width + GAP)},
        {&w->wide, n * (w->width / 2 + EDGE)},
        {&w->low, 2 * n * LOW_ROWS * w->width},
        {&w->mid_rows, LOW_ROWS * w->width},
        {&w->fraction, 2 * w->width},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (memory) *parts[i].at = memory + used;
        used += (parts[i].size + 2 * EDGE - 1) / EDGE * EDGE; /* padded, because vectors may be read past the end */
    }
    if (memory) w->index = (int32_t *)(w->fraction + w->width);
    return used;
}

/* ---- 1x1 convolutions ------------------------------------------------------------------------------------------ */

struct pointwise {
    float *to;
    const float *from, *weight, *bias; /* bias: NULL for 0 */
    int64_t to_step, from_step;        /* floats between channels */
    int outputs, inputs, weight_step;
    int accumulate, clip, width;
};

/* Compute `outputs` channels from o and `vectors` vectors of pixels from x. */
INLINE void pointwise_part(const struct pointwise *p, int o, int x, const int outputs, const int vectors) {
    vector sum[8][2];
#pragma GCC unroll 8
    for (int i = 0; i < outputs; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            sum[i][v] = broadcast(p->bias ? p->bias[o + i] : 0.0f);
            if (p->accumulate) sum[i][v] += load(p->to + (o + i) * p->to_step + x + v * LANES);
        }
    const float *from = p->from + x, *weight = p->weight + o;
    for (int c = 0; c < p->inputs; c++, from += p->from_step, weight += p->weight_step) {
        vector value[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) value[v] = load(from + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < outputs; i++) {
            vector w = broadcast(weight[i]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[i][v] += value[v] * w;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < outputs; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            store(p->to + (o + i) * p->to_step + x + v * LANES, p->clip ? clamp(sum[i][v], 0, 6) : sum[i][v]);
}

INLINE void pointwise_columns(const struct pointwise *p, int x, const int vectors) {
    int o = 0;
    for (; o + 8 <= p->outputs; o += 8) pointwise_part(p, o, x, 8, vectors);
    for (; o + 4 <= p->outputs; o += 4) pointwise_part(p, o, x, 4, vectors);
    for (; o + 2 <= p->outputs; o += 2) pointwise_part(p, o, x, 2, vectors);
    for (; o < p->outputs; o++) pointwise_part(p, o, x, 1, vectors);
}

static void pointwise(const struct pointwise *p) {
    int x = 0;
    for (; x + 2 * LANES <= p->width; x += 2 * LANES) pointwise_columns(p, x, 2);
    for (; x < p->width; x += LANES) pointwise_columns(p, x, 1);
}

/* ---- upsampling ------------------------------------------------------------------------------------------------ */

#if LANES == 16
/* Shuffle 8 source pixels of 4 channels. Each holds 2 x 2 output pixels per channel. Write the even or odd row of them,
 * 16 pixels, for the first `channels` channels. */
INLINE void shuffle_pixels(const float *from, int64_t from_step, int odd, int channels, float *to, int64_t to_step) {
    __m512 pairs[4], halves[4], rows[4];
    for (int i = 0; i < 4; i++) {
        __m512d a = _mm512_loadu_pd(from + 2 * i * from_step), b = _mm512_loadu_pd(from + (2 * i + 1) * from_step);
        pairs[i] = _mm512_castpd_ps(odd ? _mm512_unpackhi_pd(a, b) : _mm512_unpacklo_pd(a, b));
    }
    /* The remaining step transposes 4 x 4 quarters of registers. */
    halves[0] = _mm512_shuffle_f32x4(pairs[0], pairs[1], 0x44);
    halves[1] = _mm512_shuffle_f32x4(pairs[0], pairs[1], 0xee);
    halves[2] = _mm512_shuffle_f32x4(pairs[2], pairs[3], 0x44);
    halves[3] = _mm512_shuffle_f32x4(pairs[2], pairs[3], 0xee);
    rows[0] = _mm512_shuffle_f32x4(halves[0], halves[2], 0x88);
    rows[1] = _mm512_shuffle_f32x4(halves[0], halves[2], 0xdd);
    rows[2] = _mm512_shuffle_f32x4(halves[1], halves[3], 0x88);
    rows[3] = _mm512_shuffle_f32x4(halves[1], halves[3], 0xdd);
    for (int c = 0; c < channels; c++) _mm512_storeu_ps(to + c * to_step, rows[c]);
}
#endif

/* Write row y of frame t of a pixel shuffle to [channels][W]. The source (source_frames, H / 2, W / 2, 4 channels) is
 * interpolated to `frames` frames first. */
static void shuffle_row(const struct band *w, const float *from, int channels, int source_frames, int frames, int t,
                         int y, float *to, int64_t to_step) {
    int half = w->width / 2;
    struct position at = source_position(t, source_frames, frames);
    int64_t length = (int64_t)half * 4 * channels, frame = length * (w->height / 2);
    const float *row = from + at.index * frame + (y / 2) * length;
    if (at.fraction > 0) {
        for (int64_t i = 0; i < length; i += LANES) {
            store(w->line + i, lerp(load(row + i), load(row + frame + i), at.fraction));
        }
        row = w->line;
    }
#if LANES == 16
    for (int x = 0; x < half; x += 8)
        for (int c = 0; c < channels; c += 4) {
            if (c + 4 > channels && channels >= 4) c = channels - 4;
            int n = channels - c < 4 ? channels - c : 4;
            const float *pixels = row + ((int64_t)x * channels + c) * 4;
            shuffle_pixels(pixels, 4 * channels, y % 2, n, to + c * to_step + 2 * x, to_step);
        }
#else
    for (int c = 0; c < channels; c++) {
        const float *pair = row + 4 * c + 2 * (y % 2);
        float *out = to + c * to_step;
        for (int x = 0; x < half; x++) memcpy(out + 2 * x, pair + (int64_t)x * 4 * channels, 8);
    }
#endif
}

/* Upsample a row from [width / 2] to [width]. */
INLINE void widen_row(const struct band *w, const float *from, float *to) {
    for (int x = 0; x < w->width; x += LANES) {
        vector a, b;
#if LANES == 16
        /* The 16 pixels are interpolated from at most 10 neighbors, which fit into one register. */
        int first = w->index[x];
        __m512 near = _mm512_loadu_ps(from + first);
        __m512i at = _mm512_sub_epi32(_mm512_loadu_si512(w->index + x), _mm512_set1_epi32(first));
        a = _mm512_permutexvar_ps(at, near);
        b = _mm512_permutexvar_ps(_mm512_add_epi32(at, _mm512_set1_epi32(1)), near);
#else
        for (int i = 0; i < LANES; i++) {
            a[i] = from[w->index[x + i]];
            b[i] = from[w->index[x + i] + 1];
        }
#endif
        store(to + x, a + (b - a) * load(w->fraction + x));
    }
}

/* Return `rows` rows of a source frame from row `top`, expanded and widened. They are cached for the next frame. */
static const float *widened_rows(struct band *w, int frame, int top, int rows) {
    const struct block *b = w->b;
    int slot = frame % 2, half = w->width / 2;
    float *low = w->low + (int64_t)slot * w->count * LOW_ROWS * w->width;
    if (w->low_frame[slot] == frame) return low;
    w->low_frame[slot] = frame;
    struct pointwise expand = {
        .to = w->wide,
        .to_step = half + EDGE,
        .outputs = w->count,
        .from = w->tile,
        .from_step = half + GAP,
        .inputs = b->channels,
        .weight = b->expand + w->first,
        .weight_step = b->inner,
        .bias = b->expand_bias + w->first,
        .width = half,
    };
    for (int r = 0; r < rows; r++) {
        const float *row = b->source + ((int64_t)frame * (w->height / 2) + top + r) * half * b->channels;
        for (int x = 0; x < half; x++)
            for (int c = 0; c < b->channels; c++) w->tile[c * expand.from_step + x] = row[(int64_t)x * b->channels + c];
        pointwise(&expand);
        for (int c = 0; c < w->count; c++) {
            float *wide = w->wide + c * expand.to_step;
            wide[half] = wide[half - 1];
            widen_row(w, wide, low + ((int64_t)c * LOW_ROWS + r) * w->width);
        }
    }
    return low;
}

/* ---- expansion of a band of a frame: [count][BAND + 2] rows, starting with the row above the band --------------- */

/* Zero the pixels to the left and right of a row: the padding of the convolution. */
INLINE void zero_borders(float *row, int width) { row[-1] = row[width] = 0; }

/* Zero row r of every channel. */
static void clear_row(const struct band *w, float *plane, int r) {
    for (int c = 0; c < w->count; c++)
        memset(plane + ((int64_t)c * (BAND + 2) + r) * w->step - EDGE, 0, sizeof *plane * w->step);
}

/* Expand and upsample a band of a frame. */
static void upsample_frame(struct band *w, int frame, float *plane) {
    const struct block *b = w->b;
    int half = w->height / 2, width = w->width;
    int top = w->y0 > 0 ? w->y0 - 1 : 0, bottom = w->y0 + BAND < w->height ? w->y0 + BAND : w->height - 1;
    int first = source_position(top, half, w->height).index, last = source_position(bottom, half, w->height).index + 1;
    int rows = (last < half ? last : half - 1) - first + 1;
    struct position t = source_position(frame, b->source_frames, b->frames_in);
    const float *before = widened_rows(w, t.index, first, rows), *after = before;
    if (t.fraction > 0) after = widened_rows(w, t.index + 1, first, rows);
    for (int c = 0; c < w->count; c++) {
        const float *low = before + (int64_t)c * LOW_ROWS * width;
        if (t.fraction > 0) {
            const float *other = after + (int64_t)c * LOW_ROWS * width;
            for (int i = 0; i < rows * width; i += LANES) {
                store(w->mid_rows + i, lerp(load(low + i), load(other + i), t.fraction));
            }
            low = w->mid_rows;
        }
        for (int y = top; y <= bottom; y++) {
            struct position at = source_position(y, half, w->height);
            const float *upper = low + (at.index - first) * width, *lower = at.fraction > 0 ? upper + width : upper;
            float *row = plane + ((int64_t)c * (BAND + 2) + y - w->y0 + 1) * w->step;
            for (int x = 0; x < width; x += LANES) {
                store(row + x, clamp(lerp(load(upper + x), load(lower + x), at.fraction), 0, 6));
            }
            zero_borders(row, width);
        }
    }
}

/* Expand a band of a frame, reading the source by its kind. */
static void expand_frame(struct band *w, int frame, float *plane) {
    const struct block *b = w->b;
    if (w->y0 == 0) clear_row(w, plane, 0);
    if (w->y0 + BAND == w->height) clear_row(w, plane, BAND + 1);
    if (b->kind == UPSAMPLED) {
        upsample_frame(w, frame, plane);
        return;
    }
    struct pointwise expand = {
        .to_step = (BAND + 2) * w->step,
        .outputs = w->count,
        .from = w->tile,
        .from_step = w->width + GAP,
        .inputs = b->channels,
        .weight = b->expand + w->first,
        .weight_step = b->inner,
        .bias = b->expand_bias + w->first,
        .clip = 1,
        .width = w->width,
    };
    for (int r = 0; r < BAND + 2; r++) {
        int y = w->y0 + r - 1;
        if (y < 0 || y >= w->height) continue;
        if (b->kind == SHUFFLED) {
            shuffle_row(w, b->source, b->channels, b->source_frames, b->frames_in, frame, y, w->tile, w->width + GAP);
        } else {
            expand.from = b->source + frame * w->area + (int64_t)y * w->width;
            expand.from_step = b->frames_in * w->area + GAP;
            /* Prefetch the next frame, which is needed soon and is not adjacent in memory. */
            if (frame + 1 < b->frames_in)
                for (int c = 0; c < b->channels; c++)
                    for (int x = 0; x < w->width; x += 16)
                        __builtin_prefetch(expand.from + w->area + c * expand.from_step + x, 0, 2);
        }
        expand.to = plane + r * w->step;
        pointwise(&expand);
        for (int c = 0; c < w->count; c++) zero_borders(expand.to + c * expand.to_step, w->width);
    }
}

/* ---- depthwise convolution ------------------------------------------------------------------------------------- */

/* Two vectors of a row, and the same shifted by one pixel to the left and to the right. */
struct window {
    vector left[2], middle[2], right[2];
};

INLINE struct window window(const float *p) {
    vector a = load(p), b = load(p + LANES);
#if LANES == 16
    /* Loads that cross cache lines cost twice as much. Combining aligned loads makes a block 20 % faster. */
    __m512i before = (__m512i)load(p - LANES), x = (__m512i)a, y = (__m512i)b, after = (__m512i)load(p + 2 * LANES);
    return (struct window){{(vector)_mm512_alignr_epi32(x, before, 15), (vector)_mm512_alignr_epi32(y, x, 15)},
                           {a, b},
                           {(vector)_mm512_alignr_epi32(y, x, 1), (vector)_mm512_alignr_epi32(after, y, 1)}};
#else
    return (struct window){{load(p - 1), load(p + LANES - 1)}, {a, b}, {load(p + 1), load(p + LANES + 1)}};
#endif
}

/* Filter four rows of a channel. `planes` points to its frames, at the row above the first. Loops over registers must
 * be unrolled, because a variable index would move the registers to memory. */
static void depthwise_rows(const float *const *planes, const float *const *weights, int taps, int64_t step, float bias,
                           int width, float *to) {
    for (int x = 0; x < width; x += 2 * LANES) {
        vector sum[4][2];
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) sum[r][0] = sum[r][1] = broadcast(bias);
        for (int k = 0; k < taps; k++) {
            const float *w = weights[k];
#pragma GCC unroll 6
            for (int r = 0; r < 6; r++) {
                struct window in = window(planes[k] + r * step + x);
#pragma GCC unroll 2
                for (int v = 0; v < 2; v++)
#pragma GCC unroll 3
                    for (int dy = 0; dy < 3; dy++)
                        if (r - dy >= 0 && r - dy < 4) {
                            sum[r - dy][v] += in.left[v] * w[3 * dy];
                            sum[r - dy][v] += in.middle[v] * w[3 * dy + 1];
                            sum[r - dy][v] += in.right[v] * w[3 * dy + 2];
                        }
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++)
#pragma GCC unroll 2
            for (int v = 0; v < 2; v++) store(to + r * width + x + v * LANES, clamp(sum[r][v], 0, 6));
    }
}

/* Write frame t of the depthwise convolution to `filtered`. */
static void depthwise(const struct band *w, int t) {
    const struct block *b = w->b;
    int64_t plane = (int64_t)w->count * (BAND + 2) * w->step;
    for (int c = 0; c < w->count; c++)
        for (int r = 0; r < BAND; r += 4) {
            const float *planes[MAX_TAPS], *weights[MAX_TAPS];
            int taps = 0;
            for (int k = 0; k < b->taps; k++) {
                int frame = t * b->stride - b->padding + k;
                if (frame < 0 || frame >= b->frames_in) continue;
                planes[taps] = w->ring + EDGE + frame % b->taps * plane + ((int64_t)c * (BAND + 2) + r) * w->step;
                weights[taps++] = b->depthwise + ((int64_t)(w->first + c) * b->taps + k) * 9;
            }
            depthwise_rows(planes, weights, taps, w->step, b->depthwise_bias[w->first + c], w->width,
                           w->filtered + (int64_t)c * (BAND * w->width + GAP) + r * w->width);
        }
}

/* Project the current channels to frame t of the result, adding to the projection of the channels before them. */
static void project(const struct band *w, int t) {
    const struct block *b = w->b;
    struct pointwise project = {
        .to_step = b->frames_out * w->area + GAP,
        .outputs = b->outer,
        .from_step = BAND * w->width + GAP,
        .inputs = w->count,
        .weight = b->project + (int64_t)w->first * b->outer,
        .weight_step = b->outer,
        .bias = w->first ? 0 : b->project_bias,
        .accumulate = b->added || w->first,
        .width = w->width,
    };
    for (int r = 0; r < BAND; r++) {
        int y = w->y0 + r;
        project.to = b->result + t * w->area + (int64_t)y * w->width;
        project.from = w->filtered + r * w->width;
        if (b->added && w->first == 0)
            shuffle_row(w, b->added, b->outer, b->added_frames, b->frames_out, t, y, project.to, project.to_step);
        pointwise(&project);
    }
}

/* Compute a band of a block, a few inner channels at a time. */
static void run_band(const struct block *b, int y0, int height, int width, float *memory) {
    struct band w = {.b = b, .y0 = y0, .height = height, .width = width};
    assign_scratch(&w, memory);
    for (int x = 0; x < width; x++) {
        struct position at = source_position(x, width / 2, width);
        w.index[x] = at.index;
        w.fraction[x] = at.fraction;
    }
    for (; w.first < b->inner; w.first += w.count) {
        if (w.count > b->inner - w.first) w.count = b->inner - w.first;
        w.low_frame[0] = w.low_frame[1] = -1;
        for (int t = 0, made = 0; t < b->frames_out; t++) {
            int first = t * b->stride - b->padding;
            if (made < first) made = first;
            for (; made < first + b->taps && made < b->frames_in; made++) {
                int64_t slot = made % b->taps;
                expand_frame(&w, made, w.ring + EDGE + slot * w.count * (BAND + 2) * w.step);
            }
            depthwise(&w, t);
            project(&w, t);
        }
    }
}

/* ---- fusion ---------------------------------------------------------------------------------------------------- */

INLINE vector sigmoid(vector x) {
    /* exp(-x) = 2^n * p(r), where p is a polynomial; adding 1.5 * 2^23 rounds to the nearest integer. */
    vector y = clamp(-x, -87, 87), rounder = broadcast(12582912.0f);
    vector shifted = y * 1.44269504f + rounder, n = shifted - rounder;
    vector r = y - n * 0.693359375f + n * 2.12194440e-4f;
    vector e = broadcast(1.0f / 720) * r + 1.0f / 120;
    e = e * r + 1.0f / 24;
    e = e * r + 1.0f / 6;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    integers power = (((integers)shifted - (integers)rounder) << 23) + 0x3f800000;
    return 1.0f / (1.0f + e * (vector)power);
}

/* Fuse a band of the maps. Maps of one frame are summed once, in `static_sum`. */
static void fuse_rows(const struct fusion *f, int y0, int height, int width, float *static_sum) {
    int64_t area = (int64_t)height * width, from = (int64_t)y0 * width;
    for (int64_t i = 0; i < BAND * width; i += LANES) {
        vector sum = broadcast(f->bias);
        for (int m = 0; m < f->count; m++)
            if (f->frames[m] == 1) sum += sigmoid(load(f->maps[m] + from + i)) * f->weights[m];
        store(static_sum + i, sum);
    }
    for (int t = 0; t < f->frames_out; t++)
        for (int64_t i = 0; i < BAND * width; i += LANES) {
            vector sum = load(static_sum + i);
            for (int m = 0; m < f->count; m++)
                if (f->frames[m] > 1) sum += sigmoid(load(f->maps[m] + t * area + from + i)) * f->weights[m];
            store(f->result + t * area + from + i, sigmoid(sum));
        }
}

/* ---- the program ----------------------------------------------------------------------------------------------- */

/* Wait until the other threads have finished their bands. */
static void wait_for(const int32_t *done, int32_t count) {
    while (__atomic_load_n(done, __ATOMIC_ACQUIRE) < count) yield_thread();
}

/* Return the number of 4-byte elements of scratch memory that each thread needs. */
EXPORT int64_t scratch(const struct program *p) {
    int64_t most = BAND * p->width;
    for (int i = 0; i < p->count; i++) {
        struct band w = {.b = &p->blocks[i], .height = p->height, .width = p->width};
        int64_t one = assign_scratch(&w, 0);
        if (one > most) most = one;
    }
    return most;
}

/* Run the program, together with all other threads that call this function. Each takes bands until none are left. */
EXPORT void run(struct program *p, float *memory) {
    int bands = p->height / BAND, y;
    for (int i = 0; i < p->count; i++) {
        struct block *b = &p->blocks[i];
        while ((y = __atomic_fetch_add(&b->next, 1, __ATOMIC_RELAXED)) < bands) {
            run_band(b, y * BAND, p->height, p->width, memory);
            __atomic_fetch_add(&b->done, 1, __ATOMIC_RELEASE);
        }
        wait_for(&b->done, bands);
    }
    struct fusion *f = &p->fusion;
    while ((y = __atomic_fetch_add(&f->next, 1, __ATOMIC_RELAXED)) < bands) {
        fuse_rows(f, y * BAND, p->height, p->width, memory);
        __atomic_fetch_add(&f->done, 1, __ATOMIC_RELEASE);
    }
    wait_for(&f->done, bands);
}
