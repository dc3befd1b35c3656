/* Kernels for the layers of TinyHD at high resolution: inverted residuals, each in one pass, and the fusion of the maps.
 *
 * These layers have few channels and many pixels. An engine that runs one operation after another writes every
 * expanded, upsampled and filtered value to memory and reads it again. Here, a band of rows passes through a whole
 * block while it is in the cache. `fused.py` defines blocks and fills in the structures; `kernels.py` mirrors them.
 *
 * Tensors from the engine are (T, H, W, C), its internal layout. They are first copied to planes (C, T, H, W), the
 * layout of all other tensors: the lanes of a vector are pixels of a row, so channels need no padding.
 *
 * Compiled once for each instruction set. Widths must be multiples of 32 (64 in half precision), heights of 8.
 */
#include "vectors.h"

#include <string.h>

#if defined(_WIN32)
/* Declared here, because windows.h defines macros such as PLANES and near. */
__declspec(dllimport) int __stdcall SwitchToThread(void);
__declspec(dllimport) void __stdcall Sleep(unsigned long);
#define EXPORT __declspec(dllexport)
#define yield_thread SwitchToThread
static void sleep_briefly(void) { Sleep(0); } /* only yields: the shortest real sleep takes longer than a band */
#else
#include <sched.h>
#include <time.h>
#define EXPORT
#define yield_thread sched_yield
static void sleep_briefly(void) { nanosleep(&(struct timespec){.tv_nsec = 50000}, 0); }
#endif

/* Number of times that a waiting thread yields before it sleeps. Yielding is faster if a core is free. If other
   threads, such as those of the video encoder, need all cores, it would keep a core busy. */
#define YIELDS_BEFORE_SLEEP 50

/* Channels that a 1x1 convolution computes at a time: with two vectors each, their sums fit into the registers. */
#if defined(__AVX2__) && !defined(__AVX512F__)
#define PART 6
#else
#define PART 12
#endif

/* Rows in a band; numbers between channels; source rows that a band needs; limits of the structures; frames times
 * channels that are expanded at a time. Without GAP, all channels of a pixel would compete for the same few sets of the
 * L1 cache, because image sides are close to powers of two. */
enum { BAND = 8, GAP = 32, LOW_ROWS = BAND / 2 + 3, EXPANDED_PLANES = 72 };
enum { MAX_TAPS = 3, MAX_PLANES = 9, MAX_MAPS = 8 };

/* Kinds of source: one of the same resolution, the input of a pixel shuffle, the input of a trilinear interpolation. */
enum { PLANES, SHUFFLED, UPSAMPLED };

/* Interpolate linearly between two rows or frames. */
INLINE vector lerp(vector u, vector v, number fraction) { return u + (v - u) * fraction; }

/* A tensor from the engine, and its copy as planes. */
struct copy {
    const float *from; /* [pixels][channels] */
    number *to;        /* [channels][pixels + GAP] */
    int32_t channels, pixels;
};

/* Planes [channels][frames][height][width] at the resolution of the block that reads them, or half of it. */
struct tensor {
    const number *data;
    int64_t step; /* numbers between channels */
    int32_t kind, frames;
};

/* An inverted residual. Three other operations are blocks without some parts: the first convolution of the encoder,
 * which is not depthwise (`dense`), reads frames in single precision and has no other parts; a copy of `added`,
 * upsampled; and weighted sums of frames of the source (`mixed`). */
struct block {
    struct tensor source;
    struct tensor added; /* added to the result; data: NULL if there is none */
    number *result;      /* [outer][frames_out * height * width + GAP] */
    int64_t result_step;                   /* numbers between channels */
    const number *expand, *expand_bias;    /* (channels, inner); NULL: the source is not expanded */
    const number *filter, *filter_bias;    /* (inner, taps, 3, 3); dense: (outer, inner, taps, 3, 3) */
    const number *project, *project_bias;  /* (inner, outer) */
    const int32_t *mixed;      /* (frames_out, 2): two frames of the source for each frame; NULL: not a sum of frames */
    const number *mix_weights; /* (frames_out, 2) */
    int32_t height, width, channels, inner, outer; /* size of the result */
    int32_t frames_in, frames_out, taps, stride, padding;
    int32_t space; /* stride in both dimensions of a frame, 1 or 2 */
    int32_t dense;
    int32_t after[2];   /* numbers of the blocks whose results are read; -1 for none */
    int32_t until;      /* number of the last block that writes a part of the source; -1 for none */
    int32_t next, done; /* number of bands started and finished */
};

struct fusion {
    const number *maps[MAX_MAPS];
    float weights[MAX_MAPS];
    int32_t frames[MAX_MAPS]; /* 1 or frames_out */
    float *result;
    float bias;
    int32_t count, frames_out;
    int32_t next, done;
};

struct program {
    struct copy *copies;
    struct block *blocks;
    struct fusion fusion;
    int32_t copies_count, count, height, width;
    int32_t next, done; /* number of copied parts, started and finished */
};

/* Layout constants; must match `kernels.py`, which checks them when it loads this library. */
EXPORT const int32_t layout[] = {
    sizeof(number), sizeof(struct copy), sizeof(struct block), sizeof(struct fusion), sizeof(struct program), MAX_TAPS, MAX_PLANES, MAX_MAPS, GAP};

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
    int y0, height, width; /* first row of the band; size of the result's frames */
    int rows;              /* rows of the source that the band needs, expanded */
    int first, count;      /* range of inner channels that is computed now */
    int64_t area, step;    /* pixels of a frame; numbers between rows of the ring */
    number *ring;          /* [taps][count][rows][space * width + GAP]: ring buffer of expanded frames; a zero before and
                              after each row */
    number *filtered;      /* [count][BAND * width + GAP] */
    number *tile;          /* [channels][space * width + GAP]: a source row */
    number *wide;          /* [count + 1][width / 2 + GAP]: the source row, expanded */
    number *low;           /* [2][count][LOW_ROWS][width]: expanded and widened source rows of two frames */
    number *mid_rows;      /* [LOW_ROWS][width]: these rows, interpolated between the two frames */
    number *fraction;      /* [width]: position of each pixel in a row of half the width, with `index` */
    whole *index;
    int low_frame[2];
};

/* Set the scratch pointers of a band, unless `memory` is NULL. Return the required bytes. */
static int64_t assign_scratch(struct band *w, number *memory) {
    const struct block *b = w->b;
    int64_t n = EXPANDED_PLANES / b->taps, used = 0;
    if (n > b->inner) n = b->inner;
    w->count = n;
    w->rows = b->space == 1 ? BAND + 2 : 2 * BAND + 1;
    w->step = b->space * w->width + GAP;
    w->area = (int64_t)w->height * w->width;
    struct {
        number **at;
        int64_t size;
    } parts[] = {
        {&w->ring, GAP + b->taps * n * w->rows * w->step},
        {&w->filtered, n * (BAND * w->width + GAP)},
        {&w->tile, b->channels * w->step},
        {&w->wide, (n + 1) * (w->width / 2 + GAP)},
        {&w->low, 2 * n * LOW_ROWS * w->width},
        {&w->mid_rows, LOW_ROWS * w->width},
        {&w->fraction, 2 * w->width},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (memory) *parts[i].at = memory + used;
        used += (parts[i].size + 2 * GAP - 1) / GAP * GAP; /* padded, because vectors may be read past the end */
    }
    if (memory) {
        w->index = (whole *)(w->fraction + w->width);
        w->ring += GAP;
    }
    return used * (int64_t)sizeof(number);
}

/* ---- 1x1 convolutions ------------------------------------------------------------------------------------------ */

struct pointwise {
    number *to;
    const number *from, *weight, *bias; /* bias: NULL for 0 */
    int64_t to_step, from_step;         /* numbers between channels */
    int outputs, inputs, weight_step;
    int accumulate, clip, width;
};

/* Compute `outputs` channels from o and `vectors` vectors of pixels from x. Fields are copied first: a vector that is
 * stored may alias the structure, so that they would be read again after each. */
INLINE void pointwise_part(const struct pointwise *p, int o, int x, const int outputs, const int vectors) {
    const number *from = p->from + x, *weight = p->weight + o, *bias = p->bias;
    const int64_t to_step = p->to_step, from_step = p->from_step;
    const int inputs = p->inputs, weight_step = p->weight_step, clip = p->clip;
    number *to = p->to + o * to_step + x;
    vector sum[PART][8];
#pragma GCC unroll 12
    for (int i = 0; i < outputs; i++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) sum[i][v] = broadcast(bias ? bias[o + i] : 0);
    if (p->accumulate)
#pragma GCC unroll 12
        for (int i = 0; i < outputs; i++)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[i][v] += load(to + i * to_step + v * LANES);
    for (int c = 0; c < inputs; c++, from += from_step, weight += weight_step) {
        vector value[8];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) value[v] = load(from + v * LANES);
#pragma GCC unroll 12
        for (int i = 0; i < outputs; i++) {
            vector w = broadcast(weight[i]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[i][v] += value[v] * w;
        }
    }
    if (clip)
#pragma GCC unroll 12
        for (int i = 0; i < outputs; i++)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[i][v] = clamp(sum[i][v], 0, 6);
#pragma GCC unroll 12
    for (int i = 0; i < outputs; i++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) store(to + i * to_step + v * LANES, sum[i][v]);
}

/* Compute `outputs` channels from o and the pixels from x to `end`. Enough vectors at a time hide the latency. */
INLINE void pointwise_span(const struct pointwise *p, int o, int x, int end, const int outputs) {
    const int vectors = 8 * outputs <= 2 * PART ? 8 : 4 * outputs <= 2 * PART ? 4 : 2;
    for (; x + vectors * LANES <= end; x += vectors * LANES) pointwise_part(p, o, x, outputs, vectors);
    for (; vectors > 2 && x + 2 * LANES <= end; x += 2 * LANES) pointwise_part(p, o, x, outputs, 2);
    for (; x < end; x += LANES) pointwise_part(p, o, x, outputs, 1);
}

/* Compute all outputs, in parts of about the same size, for a few pixels at a time: their inputs stay in the L1 cache. */
static void pointwise(const struct pointwise *p) {
    int parts = (p->outputs + PART - 1) / PART;
    for (int x = 0; x < p->width; x += 8 * LANES) {
        int end = x + 8 * LANES < p->width ? x + 8 * LANES : p->width;
        for (int i = 0, o = 0, n; i < parts; i++, o += n) {
            n = (p->outputs - o) / (parts - i);
            switch (n) {
#define CASE(n) case n: pointwise_span(p, o, x, end, n); break;
                CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if PART == 12
                CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
#undef CASE
            }
        }
    }
}

/* ---- upsampling ------------------------------------------------------------------------------------------------ */

/* Write row y of frame t of a channel of a pixel shuffle, whose source is interpolated to `frames` frames first. */
static void shuffle_row(const struct band *w, const struct tensor *source, int frames, int channel, int t, int y,
                        number *to) {
    int half = w->width / 2;
    int64_t frame = w->area / 4;
    struct position at = source_position(t, source->frames, frames);
    const number *even = source->data + (4 * channel + y % 2 * 2) * source->step + at.index * frame + y / 2 * half;
    const number *odd = even + source->step;
    for (int x = 0; x < half; x += LANES) {
        vector a = load(even + x), b = load(odd + x), low, high;
        if (at.fraction > 0) {
            a = lerp(a, load(even + frame + x), at.fraction);
            b = lerp(b, load(odd + frame + x), at.fraction);
        }
        interleave(a, b, &low, &high);
        store(to + 2 * x, low);
        store(to + 2 * x + LANES, high);
    }
}

/* Upsample a row from [width / 2] to [width]. */
INLINE void widen_row(const struct band *w, const number *from, number *to) {
    for (int x = 0; x < w->width; x += LANES) {
        vector a, b;
        neighbors(from, w->index + x, &a, &b);
        store(to + x, a + (b - a) * load(w->fraction + x));
    }
}

/* Write row y of frame t of a channel of a trilinear interpolation to `frames` frames. */
static void upsample_row(const struct band *w, const struct tensor *source, int frames, int channel, int t, int y,
                         number *to) {
    int half = w->width / 2;
    int64_t area = w->area / 4;
    struct position frame = source_position(t, source->frames, frames), row = source_position(y, w->height / 2, w->height);
    const number *upper = source->data + channel * source->step + frame.index * area + (int64_t)row.index * half;
    const number *lower = row.fraction > 0 ? upper + half : upper;
    int64_t next = frame.fraction > 0 ? area : 0;
    for (int x = 0; x < half; x += LANES) {
        vector a = lerp(load(upper + x), load(upper + next + x), frame.fraction);
        vector b = lerp(load(lower + x), load(lower + next + x), frame.fraction);
        store(w->wide + x, lerp(a, b, row.fraction));
    }
    w->wide[half] = w->wide[half - 1];
    widen_row(w, w->wide, to);
}

/* Return `rows` rows of a source frame from row `top`, expanded and widened. They are cached for the next frame. */
static const number *widened_rows(struct band *w, int frame, int top, int rows) {
    const struct block *b = w->b;
    int slot = frame % 2, half = w->width / 2;
    number *low = w->low + (int64_t)slot * w->count * LOW_ROWS * w->width;
    if (w->low_frame[slot] == frame) return low;
    w->low_frame[slot] = frame;
    struct pointwise expand = {
        .to = w->wide,
        .to_step = half + GAP,
        .outputs = w->count,
        .from = b->source.data + frame * w->area / 4 + (int64_t)top * half,
        .from_step = b->source.step,
        .inputs = b->channels,
        .weight = b->expand + w->first,
        .weight_step = b->inner,
        .bias = b->expand_bias + w->first,
        .width = half,
    };
    for (int r = 0; r < rows; r++, expand.from += half) {
        pointwise(&expand);
        for (int c = 0; c < w->count; c++) {
            number *wide = w->wide + c * expand.to_step;
            wide[half] = wide[half - 1];
            widen_row(w, wide, low + ((int64_t)c * LOW_ROWS + r) * w->width);
        }
    }
    return low;
}

/* ---- expansion of a band of a frame: [count][BAND + 2] rows, starting with the row above the band --------------- */

/* Zero row r of every channel. */
static void clear_row(const struct band *w, number *plane, int r) {
    for (int c = 0; c < w->count; c++)
        memset(plane + ((int64_t)c * w->rows + r) * w->step, 0, sizeof *plane * (w->step - GAP));
}

/* Expand and upsample a band of a frame. */
static void upsample_frame(struct band *w, int frame, number *plane) {
    const struct block *b = w->b;
    int half = w->height / 2, width = w->width;
    int top = w->y0 > 0 ? w->y0 - 1 : 0, bottom = w->y0 + BAND < w->height ? w->y0 + BAND : w->height - 1;
    int first = source_position(top, half, w->height).index, last = source_position(bottom, half, w->height).index + 1;
    int rows = (last < half ? last : half - 1) - first + 1;
    struct position t = source_position(frame, b->source.frames, b->frames_in);
    const number *before = widened_rows(w, t.index, first, rows), *after = before;
    if (t.fraction > 0) after = widened_rows(w, t.index + 1, first, rows);
    for (int c = 0; c < w->count; c++) {
        const number *low = before + (int64_t)c * LOW_ROWS * width;
        if (t.fraction > 0) {
            const number *other = after + (int64_t)c * LOW_ROWS * width;
            for (int i = 0; i < rows * width; i += LANES) {
                store(w->mid_rows + i, lerp(load(low + i), load(other + i), t.fraction));
            }
            low = w->mid_rows;
        }
        for (int y = top; y <= bottom; y++) {
            struct position at = source_position(y, half, w->height);
            const number *upper = low + (at.index - first) * width, *lower = at.fraction > 0 ? upper + width : upper;
            number *row = plane + ((int64_t)c * w->rows + y - w->y0 + 1) * w->step;
            for (int x = 0; x < width; x += LANES) {
                store(row + x, clamp(lerp(load(upper + x), load(lower + x), at.fraction), 0, 6));
            }
        }
    }
}

/* Copy a row of twice the width as its even pixels, followed by its odd pixels; `single`: from single precision. */
static void separate_row(const number *from, int single, int width, number *to) {
    const float *floats_from = (const float *)from;
    for (int x = 0; x < width; x += FLOATS) {
        floats even, odd;
        if (single)
            separate(load_floats(floats_from + 2 * x), load_floats(floats_from + 2 * x + FLOATS), &even, &odd);
        else
            separate(widen(from + 2 * x), widen(from + 2 * x + FLOATS), &even, &odd);
        narrow_to(to + x, even);
        narrow_to(to + width + x, odd);
    }
}

/* Copy row y of a frame of channel c of the source. If the convolution halves the resolution, even pixels come first. */
static void copy_row(const struct band *w, int frame, int c, int y, number *to) {
    const struct block *b = w->b;
    int64_t width = b->space * w->width;
    int64_t at = c * b->source.step + frame * b->space * b->space * w->area + y * width;
    if (b->source.kind == SHUFFLED)
        shuffle_row(w, &b->source, b->frames_in, c, frame, y, to);
    else if (b->dense)
        separate_row((const number *)((const float *)b->source.data + at), 1, w->width, to);
    else if (b->space == 2)
        separate_row(b->source.data + at, 0, w->width, to);
    else
        memcpy(to, b->source.data + at, width * sizeof *to);
}

/* Expand a band of a frame, reading the source by its kind. */
static void expand_frame(struct band *w, int frame, number *plane) {
    const struct block *b = w->b;
    int height = b->space * w->height;
    int64_t channel = w->rows * w->step;
    for (int r = 0; r < w->rows; r++) {
        int y = b->space * w->y0 + r - 1;
        if (y < 0 || y >= height) clear_row(w, plane, r);
    }
    if (b->source.kind == UPSAMPLED) {
        upsample_frame(w, frame, plane);
        return;
    }
    struct pointwise expand = {
        .to_step = channel,
        .outputs = w->count,
        .from = w->tile,
        .from_step = w->step,
        .inputs = b->channels,
        .weight = b->expand + w->first,
        .weight_step = b->inner,
        .bias = b->expand_bias + w->first,
        .clip = 1,
        .width = w->step - GAP,
    };
    for (int r = 0; r < w->rows; r++) {
        int y = b->space * w->y0 + r - 1;
        if (y < 0 || y >= height) continue;
        expand.to = plane + r * w->step;
        if (!b->expand) {
            for (int c = 0; c < w->count; c++) copy_row(w, frame, w->first + c, y, expand.to + c * channel);
            continue;
        }
        if (b->source.kind == PLANES && b->space == 1) {
            expand.from = b->source.data + frame * w->area + (int64_t)y * w->width;
            expand.from_step = b->source.step;
            /* Prefetch the next frame, which is needed soon and is not adjacent in memory. */
            if (frame + 1 < b->frames_in)
                for (int c = 0; c < b->channels; c++)
                    for (int x = 0; x < w->width; x += 64 / (int)sizeof(number))
                        __builtin_prefetch(expand.from + w->area + c * expand.from_step + x, 0, 2);
        } else {
            for (int c = 0; c < b->channels; c++) copy_row(w, frame, c, y, w->tile + c * w->step);
        }
        pointwise(&expand);
    }
}

/* ---- 3x3 convolutions ------------------------------------------------------------------------------------------ */

/* Compute four rows of a channel. `planes` points to the frames that it is computed from, at the row above the first.
 * With a stride of 2, the even pixels of a row of a plane are followed by the odd ones.
 *
 * The three columns of the kernel have a sum each, which is shifted by a pixel at the end: shifting the inputs would take
 * as many instructions as a third of the multiply-adds. Loops over registers must be unrolled, because a variable index
 * would move the registers to memory. */
INLINE void filter_rows(const number *const *planes, const number *const *weights, int count, int64_t step, number bias,
                        int width, number *to, const int stride) {
    vector left[4] = {}, middle[4] = {}, right[4] = {}; /* of the vectors before: `middle` includes `left` */
    for (int x = 0; x < width; x += LANES) {
        vector sum[4][3] = {};
        for (int k = 0; k < count; k++) {
            const number *w = weights[k];
#pragma GCC unroll 9
            for (int r = 0; r < 3 * stride + 3; r++) {
                vector in = load(planes[k] + r * step + x), odd = in;
                if (stride == 2) odd = load(planes[k] + r * step + width + x);
#pragma GCC unroll 3
                for (int dy = 0; dy < 3; dy++) {
                    int row = (r - dy) / stride;
                    if (r < dy || (r - dy) % stride || row > 3) continue;
                    sum[row][0] += odd * w[3 * dy];
                    sum[row][1] += in * w[3 * dy + 1];
                    /* With a stride of 2, the pixel to the right of an even one has the same lane. */
                    sum[row][3 - stride] += odd * w[3 * dy + 2];
                }
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            if (x > 0) store(to + r * width + x - LANES, clamp(middle[r] + from_second(right[r], sum[r][2]), 0, 6));
            middle[r] = bias + sum[r][1] + from_last(left[r], sum[r][0]);
            left[r] = sum[r][0];
            right[r] = sum[r][2];
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++)
        store(to + r * width + width - LANES, clamp(middle[r] + from_second(right[r], broadcast(0)), 0, 6));
}

#if LANES == 8

/* Compute the same without a stride, for AVX2, whose 16 registers do not hold three sums of four rows and their shifted
 * inputs. The inputs are read at each of the three columns instead, and every row lies between two zeros. Vectors of
 * AVX-512 are as long as a cache line, so that two of three such reads would access two lines. */
static void filter_rows_1(const number *const *planes, const number *const *weights, int count, int64_t step,
                          number bias, int width, number *to) {
    for (int x = 0; x < width; x += 2 * LANES) {
        vector a[4], b[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) a[r] = b[r] = broadcast(bias);
        for (int k = 0; k < count; k++) {
#pragma GCC unroll 3
            for (int dx = 0; dx < 3; dx++) {
                const number *from = planes[k] + x + dx - 1;
                vector w[3];
#pragma GCC unroll 3
                for (int dy = 0; dy < 3; dy++) w[dy] = broadcast(weights[k][3 * dy + dx]);
#pragma GCC unroll 6
                for (int r = 0; r < 6; r++) {
                    vector u = load(from + r * step), v = load(from + r * step + LANES);
#pragma GCC unroll 3
                    for (int dy = 0; dy < 3; dy++) {
                        if (r < dy || r - dy > 3) continue;
                        a[r - dy] += u * w[dy];
                        b[r - dy] += v * w[dy];
                    }
                }
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            store(to + r * width + x, clamp(a[r], 0, 6));
            store(to + r * width + x + LANES, clamp(b[r], 0, 6));
        }
    }
}

#else

static void filter_rows_1(const number *const *planes, const number *const *weights, int count, int64_t step,
                          number bias, int width, number *to) {
    filter_rows(planes, weights, count, step, bias, width, to, 1);
}

#endif

static void filter_rows_2(const number *const *planes, const number *const *weights, int count, int64_t step,
                          number bias, int width, number *to) {
    filter_rows(planes, weights, count, step, bias, width, to, 2);
}

/* Compute four rows, from row r of the band, of channel c of frame t from the `inputs` channels from `first`. */
static void filter_channel(const struct band *w, int t, int r, int c, int first, int inputs, number *to) {
    const struct block *b = w->b;
    const number *planes[MAX_PLANES], *weights[MAX_PLANES];
    int count = 0;
    for (int i = 0; i < inputs; i++)
        for (int k = 0; k < b->taps; k++) {
            int frame = t * b->stride - b->padding + k;
            if (frame < 0 || frame >= b->frames_in) continue;
            int64_t row = ((int64_t)(frame % b->taps) * w->count + first + i) * w->rows + b->space * r;
            planes[count] = w->ring + row * w->step;
            weights[count++] = b->filter + (((int64_t)c * inputs + i) * b->taps + k) * 9;
        }
    (b->space == 1 ? filter_rows_1 : filter_rows_2)(planes, weights, count, w->step, b->filter_bias[c], w->width, to);
}

/* Write frame t of the convolution to `filtered`, or of a dense one to the result. */
static void filter(const struct band *w, int t) {
    const struct block *b = w->b;
    for (int r = 0; r < BAND; r += 4) {
        for (int c = 0; !b->dense && c < w->count; c++)
            filter_channel(w, t, r, w->first + c, c, 1,
                           w->filtered + (int64_t)c * (BAND * w->width + GAP) + r * w->width);
        for (int c = 0; b->dense && c < b->outer; c++)
            filter_channel(w, t, r, c, 0, b->inner,
                           b->result + c * b->result_step + t * w->area + (int64_t)(w->y0 + r) * w->width);
    }
}

/* Write row y of frame t of a channel of the tensor that is added to the result. */
static void added_row(const struct band *w, int channel, int t, int y, number *to) {
    const struct tensor *added = &w->b->added;
    if (added->kind == SHUFFLED)
        shuffle_row(w, added, w->b->frames_out, channel, t, y, to);
    else if (added->kind == UPSAMPLED)
        upsample_row(w, added, w->b->frames_out, channel, t, y, to);
    else
        memcpy(to, added->data + channel * added->step + t * w->area + (int64_t)y * w->width, w->width * sizeof *to);
}

/* Project the current channels to frame t of the result, adding to the projection of the channels before them. */
static void project(const struct band *w, int t) {
    const struct block *b = w->b;
    struct pointwise project = {
        .to_step = b->result_step,
        .outputs = b->outer,
        .from_step = BAND * w->width + GAP,
        .inputs = w->count,
        .weight = b->project + (int64_t)w->first * b->outer,
        .weight_step = b->outer,
        .bias = w->first ? 0 : b->project_bias,
        .accumulate = b->added.data || w->first,
        .width = w->width,
    };
    for (int r = 0; r < BAND; r++) {
        int y = w->y0 + r;
        project.to = b->result + t * w->area + (int64_t)y * w->width;
        project.from = w->filtered + r * w->width;
        for (int c = 0; b->added.data && w->first == 0 && c < b->outer; c++)
            added_row(w, c, t, y, project.to + c * project.to_step);
        pointwise(&project);
    }
}

/* Compute a band of weighted sums of two frames. */
static void mix_band(const struct block *b, int y0) {
    int64_t area = (int64_t)b->height * b->width, from = (int64_t)y0 * b->width;
    for (int c = 0; c < b->outer; c++)
        for (int t = 0; t < b->frames_out; t++) {
            const number *source = b->source.data + c * b->source.step + from, *weights = b->mix_weights + 2 * t;
            const number *one = source + b->mixed[2 * t] * area, *other = source + b->mixed[2 * t + 1] * area;
            number *to = b->result + c * b->result_step + t * area + from;
            if (one == other)
                memcpy(to, one, BAND * b->width * sizeof *to);
            else
                for (int x = 0; x < BAND * b->width; x += LANES)
                    store(to + x, load(one + x) * weights[0] + load(other + x) * weights[1]);
        }
}

/* Compute a band of a block, a few inner channels at a time. */
static void run_band(const struct block *b, int y0, number *memory) {
    if (b->mixed) {
        mix_band(b, y0);
        return;
    }
    struct band w = {.b = b, .y0 = y0, .height = b->height, .width = b->width};
    assign_scratch(&w, memory);
    for (int x = 0; x < w.width; x++) {
        struct position at = source_position(x, w.width / 2, w.width);
        w.index[x] = at.index;
        w.fraction[x] = at.fraction;
    }
    for (int r = 0; r <= b->taps * w.count * w.rows; r++) w.ring[r * w.step - GAP] = w.ring[r * w.step - 1] = 0;
    do {
        if (w.count > b->inner - w.first) w.count = b->inner - w.first;
        w.low_frame[0] = w.low_frame[1] = -1;
        for (int t = 0, made = 0; t < b->frames_out; t++) {
            int first = t * b->stride - b->padding;
            if (made < first) made = first;
            for (; made < first + b->taps && made < b->frames_in; made++)
                expand_frame(&w, made, w.ring + made % b->taps * (int64_t)w.count * w.rows * w.step);
            filter(&w, t);
            if (!b->dense) project(&w, t);
        }
        w.first += w.count;
    } while (w.first < b->inner);
}

/* ---- fusion ---------------------------------------------------------------------------------------------------- */

INLINE floats sigmoid(floats x) {
    /* exp(-x) = 2^n * p(r), where p is a polynomial; adding 1.5 * 2^23 rounds to the nearest integer. */
    floats y = clamp_floats(-x, -87, 87), rounder = broadcast_float(12582912.0f);
    floats shifted = y * 1.44269504f + rounder, n = shifted - rounder;
    floats r = y - n * 0.693359375f + n * 2.12194440e-4f;
    floats e = broadcast_float(1.0f / 720) * r + 1.0f / 120;
    e = e * r + 1.0f / 24;
    e = e * r + 1.0f / 6;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    integers power = (((integers)shifted - (integers)rounder) << 23) + 0x3f800000;
    return 1.0f / (1.0f + e * (floats)power);
}

/* Fuse a band of the maps. Maps of one frame are summed once, in `static_sum`. */
static void fuse_rows(const struct fusion *f, int y0, int height, int width, float *static_sum) {
    int64_t area = (int64_t)height * width, from = (int64_t)y0 * width;
    for (int64_t i = 0; i < BAND * width; i += FLOATS) {
        floats sum = broadcast_float(f->bias);
        for (int m = 0; m < f->count; m++)
            if (f->frames[m] == 1) sum += sigmoid(widen(f->maps[m] + from + i)) * f->weights[m];
        store_floats(static_sum + i, sum);
    }
    for (int t = 0; t < f->frames_out; t++)
        for (int64_t i = 0; i < BAND * width; i += FLOATS) {
            floats sum = load_floats(static_sum + i);
            for (int m = 0; m < f->count; m++)
                if (f->frames[m] > 1) sum += sigmoid(widen(f->maps[m] + t * area + from + i)) * f->weights[m];
            store_floats(f->result + t * area + from + i, sigmoid(sum));
        }
}

/* ---- copies ---------------------------------------------------------------------------------------------------- */

/* Copy a range of pixels of a tensor from the engine to planes. */
static void copy_pixels(const struct copy *c, int first, int last) {
    for (int channel = 0; channel < c->channels; channel += FLOATS)
        for (int pixel = first; pixel < last; pixel += FLOATS) {
            floats a[FLOATS], b[FLOATS];
#pragma GCC unroll 16
            for (int i = 0; i < FLOATS; i++) a[i] = load_floats(c->from + (int64_t)(pixel + i) * c->channels + channel);
            /* Rows are interleaved log2(FLOATS) times, which transposes the square. */
#pragma GCC unroll 4
            for (int stage = 1; stage < FLOATS; stage *= 2) {
#pragma GCC unroll 16
                for (int i = 0; i < FLOATS / 2; i++)
                    interleave_floats(a[i], a[i + FLOATS / 2], &b[2 * i], &b[2 * i + 1]);
#pragma GCC unroll 16
                for (int i = 0; i < FLOATS; i++) a[i] = b[i];
            }
            int64_t step = c->pixels + GAP;
            number *to = c->to + channel * step + pixel;
#pragma GCC unroll 16
            for (int i = 0; i < FLOATS; i++)
                if (channel + i < c->channels) narrow_to(to + i * step, a[i]);
        }
}

/* Copy a part of all tensors. */
static void copy_part(const struct program *p, int part, int parts) {
    for (int i = 0; i < p->copies_count; i++) {
        int64_t vectors = p->copies[i].pixels / FLOATS;
        copy_pixels(&p->copies[i], vectors * part / parts * FLOATS, vectors * (part + 1) / parts * FLOATS);
    }
}

/* ---- the program ----------------------------------------------------------------------------------------------- */

/* Wait until the other threads have finished their bands. */
static void wait_for(const int32_t *done, int32_t count) {
    for (int i = 0; __atomic_load_n(done, __ATOMIC_ACQUIRE) < count; i++) {
        if (i < YIELDS_BEFORE_SLEEP)
            yield_thread();
        else
            sleep_briefly();
    }
}

/* Return the bytes of scratch memory that each thread needs. */
EXPORT int64_t scratch(const struct program *p) {
    int64_t most = BAND * p->width * (int64_t)sizeof(float);
    for (int i = 0; i < p->count; i++) {
        struct band w = {.b = &p->blocks[i], .height = p->blocks[i].height, .width = p->blocks[i].width};
        int64_t one = assign_scratch(&w, 0);
        if (one > most) most = one;
    }
    return most;
}

/* Run the program, together with all other threads that call this function. Each takes bands until none are left. */
EXPORT void run(struct program *p, void *memory) {
    int bands = p->height / BAND, y;
    while ((y = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < bands) {
        copy_part(p, y, bands);
        __atomic_fetch_add(&p->done, 1, __ATOMIC_RELEASE);
    }
    wait_for(&p->done, bands);
    for (int i = 0; i < p->count; i++) {
        struct block *b = &p->blocks[i];
        for (int k = 0; k <= b->until; k++) wait_for(&p->blocks[k].done, p->blocks[k].height / BAND);
        for (int k = 0; k < 2; k++)
            if (b->after[k] >= 0) wait_for(&p->blocks[b->after[k]].done, p->blocks[b->after[k]].height / BAND);
        while ((y = __atomic_fetch_add(&b->next, 1, __ATOMIC_RELAXED)) < b->height / BAND) {
            run_band(b, y * BAND, memory);
            __atomic_fetch_add(&b->done, 1, __ATOMIC_RELEASE);
        }
    }
    for (int i = 0; i < p->count; i++) wait_for(&p->blocks[i].done, p->blocks[i].height / BAND);
    struct fusion *f = &p->fusion;
    if (f->frames_out == 0) return;
    while ((y = __atomic_fetch_add(&f->next, 1, __ATOMIC_RELAXED)) < bands) {
        fuse_rows(f, y * BAND, p->height, p->width, memory);
        __atomic_fetch_add(&f->done, 1, __ATOMIC_RELEASE);
    }
    wait_for(&f->done, bands);
}
