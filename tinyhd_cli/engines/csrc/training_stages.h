/* The kernels of `training.c` for one type of tensor: STORED in memory, REAL in registers. */
#define VL ((int)(FLOATS * 4 / sizeof(REAL)))
#define vec T(vec)
#define whole_vec T(whole_vec)
#define ROUNDED(n) (((n) + VL - 1) / VL * VL)
#define ROUNDED_PAIRS(n) (((n) + 2 * VL - 1) / (2 * VL) * (2 * VL))

typedef REAL vec __attribute__((vector_size(FLOATS * 4)));
typedef WHOLE whole_vec __attribute__((vector_size(FLOATS * 4)));
typedef REAL T(unaligned_vec) __attribute__((vector_size(FLOATS * 4), aligned(sizeof(REAL)), may_alias));
#ifdef IS_BFLOAT16
typedef uint32_t T(bits) __attribute__((vector_size(FLOATS * 4)));
typedef uint16_t T(stored_vec) __attribute__((vector_size(FLOATS * 2), aligned(2), may_alias));
#endif

INLINE vec T(at)(const REAL *from) { return *(const T(unaligned_vec) *)from; }
INLINE void T(set)(REAL *to, vec v) { *(T(unaligned_vec) *)to = v; }
INLINE vec T(all)(REAL value) { return value - (vec){0}; }

INLINE vec T(get)(const STORED *from) {
#ifdef IS_BFLOAT16
    return (vec)(__builtin_convertvector(*(const T(stored_vec) *)from, T(bits)) << 16);
#else
    return T(at)(from);
#endif
}

INLINE void T(put)(STORED *to, vec v) {
#ifdef IS_BFLOAT16
    T(bits) b = (T(bits))v, not_a_number = (T(bits))(v != v);
    T(bits) rounded = (b + 0x7fff + ((b >> 16) & 1)) >> 16; /* to the nearest number, ties to even */
    rounded = (rounded & ~not_a_number) | (0x7fc0 & not_a_number);
    *(T(stored_vec) *)to = __builtin_convertvector(rounded, T(stored_vec));
#else
    T(set)(to, v);
#endif
}

/* Read or write the first `n` numbers, if the vector has more. */
INLINE vec T(get_some)(const STORED *from, int n) {
    if (n >= VL) return T(get)(from);
    STORED some[VL] = {0};
    memcpy(some, from, n * sizeof(STORED));
    return T(get)(some);
}
INLINE void T(put_some)(STORED *to, vec v, int n) {
    if (n >= VL) {
        T(put)(to, v);
        return;
    }
    STORED some[VL];
    T(put)(some, v);
    memcpy(to, some, n * sizeof(STORED));
}

/* Set the lanes from `n` on to a value. */
INLINE vec T(cut)(vec v, int n, REAL value) {
    for (int i = n; i < VL; i++) v[i] = value;
    return v;
}

/* Unlike `clamp` in `vectors.h`, this keeps values that are not a number, so that a failed training step is noticed. */
INLINE vec T(relu6)(vec v) {
#ifdef IS_DOUBLE
    vec six = T(all)(6);
    v = (vec)((whole_vec)v & ~(v <= 0));
    whole_vec over = v > six;
    return (vec)(((whole_vec)v & ~over) | ((whole_vec)six & over));
#elif FLOATS == 16
    return _mm512_min_ps(T(all)(6), _mm512_max_ps((vec){0}, v));
#elif FLOATS == 8
    return _mm256_min_ps(T(all)(6), _mm256_max_ps((vec){0}, v));
#else
    return vminq_f32(T(all)(6), vmaxq_f32((vec){0}, v));
#endif
}

/* Lanes of `v` where 0 < x < 6, elsewhere 0: the gradient of ReLU6 at `x`, or at ReLU6 of `x`. */
INLINE vec T(inside)(vec x, vec v) {
#if FLOATS == 16 && !defined(IS_DOUBLE)
    __mmask16 above = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_maskz_mov_ps(_mm512_mask_cmp_ps_mask(above, x, _mm512_set1_ps(6), _CMP_LT_OQ), v);
#else
    return (vec)((whole_vec)v & (x > 0) & (x < 6));
#endif
}

INLINE vec T(add_pairs)(vec a, vec b) {
#ifdef IS_DOUBLE
    vec sum;
    for (int i = 0; i < VL / 2; i++) {
        sum[i] = a[2 * i] + a[2 * i + 1];
        sum[VL / 2 + i] = b[2 * i] + b[2 * i + 1];
    }
    return sum;
#else
    return add_float_pairs(a, b);
#endif
}

INLINE double T(total)(vec v) {
    double sum = 0;
    for (int i = 0; i < VL; i++) sum += v[i];
    return sum;
}

/* ---- what is read ---------------------------------------------------------------------------------------------- */

/* The BatchNorm of one channel of the input, or of the gradient of the output. */
struct T(reader) {
    vec scale, shift, slope, out_slope, constant;
    int normalized, activated, masked;
};

INLINE struct T(reader) T(input_reader)(const struct stage *s, int c) {
    struct T(reader) r = {.normalized = s->in_scale != NULL, .activated = s->activated};
    if (!r.normalized) return r;
    r.scale = T(all)(((const REAL *)s->in_scale)[c]);
    r.shift = T(all)(((const REAL *)s->in_shift)[c]);
    return r;
}

INLINE vec T(read_input)(const struct T(reader) * r, vec v) {
    if (r->normalized) v = v * r->scale + r->shift;
    return r->activated ? T(relu6)(v) : v;
}

INLINE struct T(reader) T(gradient_reader)(const struct stage *s, int c) {
    struct T(reader) r = {.masked = s->mask_scale != NULL};
    if (s->slope) {
        r.slope = T(all)(((const REAL *)s->slope)[c]);
        r.out_slope = T(all)(((const REAL *)s->out_slope)[c]);
        r.constant = T(all)(((const REAL *)s->constant)[c]);
    }
    if (!r.masked) return r;
    r.scale = T(all)(((const REAL *)s->mask_scale)[c]);
    r.shift = T(all)(((const REAL *)s->mask_shift)[c]);
    return r;
}

INLINE vec T(read_gradient)(const struct T(reader) * r, vec gradient, vec output) {
    if (r->masked) gradient = T(inside)(output * r->scale + r->shift, gradient);
    return r->slope * gradient + (r->out_slope * output + r->constant);
}

/* ---- sums ------------------------------------------------------------------------------------------------------ */

/* Sums of deviations from `pivot` and of their squares; or of gradients, and of their products with deviations. */
struct T(sums) {
    vec first, second;
    REAL pivot;
    int64_t count;
};

INLINE void T(write_statistics)(const struct T(sums) * s, double *to) {
    double sum = T(total)(s->first), count = s->count;
    to[0] = count;
    to[1] = s->pivot + sum / count;
    to[2] = T(total)(s->second) - sum * sum / count;
}

/* Add `n` numbers of an output to its statistics. */
INLINE void T(add_statistics)(struct T(sums) * s, const REAL *from, int n) {
    if (s->count == 0) s->pivot = from[0];
    s->count += n;
    vec pivot = T(all)(s->pivot), first = s->first, second = s->second;
    for (int i = 0; i < n; i += VL) {
        vec v = T(at)(from + i);
        if (n - i < VL) v = T(cut)(v, n - i, s->pivot);
        v -= pivot;
        first += v;
        second += v * v;
    }
    s->first = first, s->second = second;
}

/* Write `n` numbers of the gradient of an input: pass them through its ReLU6, and sum them for its BatchNorm.
 * `activated`: the input after BatchNorm and ReLU6. */
INLINE void T(finish_gradient)(const struct stage *s, struct T(sums) * sums, const REAL *from, const REAL *activated,
                               int64_t offset, int n) {
    const STORED *input = (const STORED *)s->input + offset, *added = s->added;
    STORED *to = (STORED *)s->result + offset;
    vec mean = T(all)(sums->pivot), first = sums->first, second = sums->second;
    for (int i = 0; i < n; i += VL) {
        vec g = T(at)(from + i);
        if (s->activated) g = T(inside)(T(at)(activated + i), g);
        if (s->in_mean) {
            if (n - i < VL) g = T(cut)(g, n - i, 0);
            first += g;
            second += g * (T(get_some)(input + i, n - i) - mean);
        }
        if (added) g += T(get_some)(added + offset + i, n - i);
        T(put_some)(to + i, g, n - i);
    }
    sums->first = first, sums->second = second;
}

/* ---- 1x1x1 convolutions ---------------------------------------------------------------------------------------- */

/* Compute `rows` rows of a product: out[m][p] = sum over k of weight[k][m] * tile[k][p]. */
INLINE void T(multiply_rows)(const REAL *weight, int outer, const REAL *tile, int inner, int count, REAL *out,
                             const int rows) {
    for (int p = 0; p < count; p += 2 * VL) {
        vec a[PART] = {0}, b[PART] = {0};
        for (int k = 0; k < inner; k++) {
            vec u = *(const vec *)(tile + k * STEP + p), v = *(const vec *)(tile + k * STEP + p + VL);
#pragma GCC unroll 12
            for (int m = 0; m < rows; m++) {
                vec w = T(all)(weight[k * outer + m]);
                a[m] += w * u;
                b[m] += w * v;
            }
        }
#pragma GCC unroll 12
        for (int m = 0; m < rows; m++) {
            *(vec *)(out + m * STEP + p) = a[m];
            *(vec *)(out + m * STEP + p + VL) = b[m];
        }
    }
}

static void T(multiply)(const REAL *weight, int outer, const REAL *tile, int inner, int count, REAL *out, int rows) {
    switch (rows) {
#define CASE(n) case n: T(multiply_rows)(weight, outer, tile, inner, count, out, n); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if PART == 12
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
#undef CASE
    }
}

/* Return the number of rows to multiply at a time: at most PART, and about equal. */
INLINE int T(part)(int rows) {
    int parts = (rows + PART - 1) / PART;
    return (rows + parts - 1) / parts;
}

/* Read a tile of the input, normalized and activated. */
static void T(read_tile)(const struct stage *s, int64_t clip, int64_t first, int n, int64_t pixels, REAL *tile) {
    for (int k = 0; k < s->inputs; k++) {
        struct T(reader) r = T(input_reader)(s, k);
        const STORED *from = (const STORED *)s->input + (clip * s->inputs + k) * pixels + first;
        for (int i = 0; i < n; i += VL) T(set)(tile + k * STEP + i, T(read_input)(&r, T(get_some)(from + i, n - i)));
    }
}

/* Read a tile of the gradient of the output. */
static void T(read_gradient_tile)(const struct stage *s, int64_t clip, int64_t first, int n, int64_t pixels,
                                  REAL *tile) {
    for (int m = 0; m < s->outputs; m++) {
        struct T(reader) r = T(gradient_reader)(s, m);
        int64_t offset = (clip * s->outputs + m) * pixels + first;
        const STORED *gradient = (const STORED *)s->gradient + offset, *output = (const STORED *)s->output + offset;
        for (int i = 0; i < n; i += VL) {
            vec v = T(read_gradient)(&r, T(get_some)(gradient + i, n - i), T(get_some)(output + i, n - i));
            T(set)(tile + m * STEP + i, n - i < VL ? T(cut)(v, n - i, 0) : v);
        }
    }
}

/* The tiles of a slot: numbers of the first and the one after the last. */
INLINE void T(tiles_of)(const struct stage *s, int slot, int64_t pixels, int64_t *first, int64_t *last, int64_t *each) {
    *each = (pixels + TILE - 1) / TILE;
    int64_t tiles = *each * s->count;
    *first = tiles * slot / SLOTS;
    *last = tiles * (slot + 1) / SLOTS;
}

static void T(pointwise)(const struct stage *s, int slot, REAL *memory) {
    int64_t pixels = (int64_t)s->frames * s->height * s->width, tile, last, each;
    REAL *input = memory, *out = input + (int64_t)s->inputs * STEP;
    struct T(sums) *sums = (struct T(sums) *)(out + PART * STEP);
    memset(sums, 0, s->outputs * sizeof *sums);
    int part = T(part)(s->outputs);
    T(tiles_of)(s, slot, pixels, &tile, &last, &each);
    for (; tile < last; tile++) {
        int64_t clip = tile / each, first = tile % each * TILE;
        int n = pixels - first < TILE ? pixels - first : TILE;
        T(read_tile)(s, clip, first, n, pixels, input);
        for (int m = 0; m < s->outputs; m += part) {
            int rows = s->outputs - m < part ? s->outputs - m : part;
            T(multiply)((const REAL *)s->weight + m, s->outputs, input, s->inputs, ROUNDED_PAIRS(n), out, rows);
            for (int i = 0; i < rows; i++) {
                STORED *to = (STORED *)s->output + (clip * s->outputs + m + i) * pixels + first;
                for (int p = 0; p < n; p += VL) T(put_some)(to + p, T(at)(out + i * STEP + p), n - p);
                T(add_statistics)(&sums[m + i], out + i * STEP, n);
            }
        }
    }
    for (int m = 0; m < s->outputs; m++)
        if (sums[m].count) T(write_statistics)(&sums[m], s->sums + ((int64_t)slot * s->outputs + m) * 3);
}

/* Write the sum of the lanes of each of 16 vectors. */
INLINE void T(totals)(vec *v, REAL *to) {
    int n = 16;
#pragma GCC unroll 4
    for (int lanes = VL; lanes > 1; lanes /= 2) {
        n /= 2;
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) v[i] = T(add_pairs)(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < n; i++) T(set)(to + i * VL, v[i]);
}

/* Add the products of all rows of two tiles to a matrix; rows are read, and columns written, in groups of 4. */
static void T(add_products)(const REAL *left, int rows, const REAL *right, int columns, int n, REAL *matrix) {
    int width = (columns + 3) / 4 * 4;
    for (int m = 0; m < rows; m += 4)
        for (int k = 0; k < columns; k += 4) {
            vec a[16];
            for (int c = 0; c < 4; c += COLUMNS) {
                vec sums[4 * COLUMNS] = {0};
                for (int p = 0; p < n; p += VL) {
                    vec u[4], v[COLUMNS];
#pragma GCC unroll 4
                    for (int i = 0; i < COLUMNS; i++) v[i] = *(const vec *)(right + (k + c + i) * STEP + p);
#pragma GCC unroll 4
                    for (int i = 0; i < 4; i++) u[i] = *(const vec *)(left + (m + i) * STEP + p);
#pragma GCC unroll 16
                    for (int i = 0; i < 4 * COLUMNS; i++) sums[i] += u[i / COLUMNS] * v[i % COLUMNS];
                }
                for (int i = 0; i < 4 * COLUMNS; i++) a[i / COLUMNS * 4 + c + i % COLUMNS] = sums[i];
            }
            REAL sums[16];
            T(totals)(a, sums);
            for (int i = 0; i < 16; i++) matrix[(m + i / 4) * (int64_t)width + k + i % 4] += sums[i];
        }
}

static void T(pointwise_gradient)(const struct stage *s, int slot, REAL *memory) {
    int64_t pixels = (int64_t)s->frames * s->height * s->width, tile, last, each;
    int inputs = (s->inputs + 3) / 4 * 4, outputs = (s->outputs + 3) / 4 * 4;
    REAL *input = memory, *gradient = input + (int64_t)inputs * STEP, *out = gradient + (int64_t)outputs * STEP;
    struct T(sums) *sums = (struct T(sums) *)(out + PART * STEP);
    REAL *products = (REAL *)(sums + s->inputs);
    memset(memory, 0, (char *)(products + (int64_t)inputs * outputs) - (char *)memory);
    for (int k = 0; k < s->inputs && s->in_mean; k++) sums[k].pivot = ((const REAL *)s->in_mean)[k];
    int part = T(part)(s->inputs);
    T(tiles_of)(s, slot, pixels, &tile, &last, &each);
    for (; tile < last; tile++) {
        int64_t clip = tile / each, first = tile % each * TILE;
        int n = pixels - first < TILE ? pixels - first : TILE;
        T(read_tile)(s, clip, first, n, pixels, input);
        T(read_gradient_tile)(s, clip, first, n, pixels, gradient);
        if (s->weight_gradient) T(add_products)(gradient, s->outputs, input, s->inputs, ROUNDED(n), products);
        for (int k = 0; k < s->inputs && s->result; k += part) {
            int rows = s->inputs - k < part ? s->inputs - k : part;
            T(multiply)((const REAL *)s->weight + k, s->inputs, gradient, s->outputs, ROUNDED_PAIRS(n), out, rows);
            for (int i = 0; i < rows; i++) {
                int64_t offset = (clip * s->inputs + k + i) * pixels + first;
                T(finish_gradient)(s, &sums[k + i], out + i * STEP, input + (k + i) * STEP, offset, n);
            }
        }
    }
    for (int k = 0; k < s->inputs && s->in_mean; k++) {
        double *to = s->sums + ((int64_t)slot * s->inputs + k) * 2;
        to[0] = T(total)(sums[k].first), to[1] = T(total)(sums[k].second);
    }
    REAL *to = (REAL *)s->weight_gradient + (int64_t)slot * s->outputs * s->inputs;
    for (int m = 0; m < s->outputs && s->weight_gradient; m++)
        memcpy(to + (int64_t)m * s->inputs, products + (int64_t)m * inputs, s->inputs * sizeof(REAL));
}

/* ---- depthwise convolutions ------------------------------------------------------------------------------------ */

/* A band of rows of all frames of one plane, padded by zeros; as if the convolution had stride 1. */
struct T(band) {
    const struct stage *s;
    int64_t plane;        /* clip * channels + channel */
    int channel, y, rows; /* rows y to y + rows of the input, between two more */
    int frames, gradient_frames, before; /* frames of the padded input and of the padded gradient; zeros before that */
    int64_t step, frame;  /* numbers between rows and between frames */
    REAL *input, *gradient, *out; /* [frames][rows + 2][step]; `out` [4][step] */
};

/* Choose the rows of a band, and return the numbers of memory that it needs. */
static int64_t T(plan_band)(struct T(band) * b, const struct stage *s, int backward) {
    b->s = s;
    b->frames = s->frames + 2 * s->padding;
    b->before = s->taps - 1 - s->padding;
    b->gradient_frames = b->frames - s->taps + 1 + 2 * b->before;
    b->step = ROUNDED_PAIRS(s->width) + 2 * VL;
    int64_t frames = b->frames + (backward ? b->gradient_frames : 0);
    int rows = BAND_BYTES / (int64_t)(frames * b->step * sizeof(REAL)) - 2;
    rows = rows < 4 ? 4 : rows / 2 * 2;
    b->rows = rows < s->height ? rows : (s->height + 1) / 2 * 2;
    b->frame = (b->rows + 2) * b->step;
    return frames * b->frame + 4 * b->step;
}

/* Read the rows of the band from the input, normalized and activated, with a row above and one below. */
static void T(read_band)(const struct T(band) * b) {
    const struct stage *s = b->s;
    struct T(reader) r = T(input_reader)(s, b->channel);
    for (int t = 0; t < s->frames; t++)
        for (int row = 0; row < b->rows + 2; row++) {
            int y = b->y - 1 + row;
            REAL *to = b->input + (t + s->padding) * b->frame + row * b->step + VL;
            if (y < 0 || y >= s->height) {
                memset(to, 0, s->width * sizeof(REAL));
                continue;
            }
            const STORED *from = (const STORED *)s->input + ((b->plane * s->frames + t) * s->height + y) * s->width;
            for (int x = 0; x < s->width; x += VL) {
                vec v = T(read_input)(&r, T(get_some)(from + x, s->width - x));
                T(set)(to + x, s->width - x < VL ? T(cut)(v, s->width - x, 0) : v);
            }
        }
}

/* Read the gradient of the output in the band, with zeros where the stride skips frames, rows and columns. */
static void T(read_gradient_band)(const struct T(band) * b) {
    const struct stage *s = b->s;
    struct T(reader) r = T(gradient_reader)(s, b->channel);
    for (int f = b->before; f < b->gradient_frames - b->before; f++)
        for (int row = 0; row < b->rows + 2; row++) {
            int t = f - b->before, y = b->y - 1 + row;
            REAL *to = b->gradient + f * b->frame + row * b->step + VL;
            if (t % s->stride || y < 0 || y >= s->height || y % s->space) {
                memset(to, 0, s->width * sizeof(REAL));
                continue;
            }
            int64_t from = ((b->plane * s->frames_out + t / s->stride) * s->height_out + y / s->space) * s->width_out;
            const STORED *gradient = (const STORED *)s->gradient + from, *output = (const STORED *)s->output + from;
            for (int x = 0; x < s->width_out; x += VL) {
                int n = s->width_out - x;
                vec v = T(read_gradient)(&r, T(get_some)(gradient + x, n), T(get_some)(output + x, n));
                if (n < VL) v = T(cut)(v, n, 0);
                if (s->space == 1)
                    T(set)(to + x, v);
                else
                    for (int i = 0; i < VL && i < n; i++) {
                        to[2 * (x + i)] = v[i];
                        if (2 * (x + i) + 1 < s->width) to[2 * (x + i) + 1] = 0;
                    }
            }
        }
}

/* Convolve one row of `count` frames. `from` points to the row above in the first frame. */
INLINE void T(convolve_row)(const struct T(band) * b, const REAL *from, const REAL *weight, const int taps,
                            const int count, const int stride) {
    for (int x = 0; x < b->s->width; x += 2 * VL) {
        vec u[4] = {0}, v[4] = {0};
#pragma GCC unroll 9
        for (int i = 0; i < 9; i++) {
            const REAL *at = from + i / 3 * b->step + i % 3 - 1 + x;
            vec w[3];
#pragma GCC unroll 3
            for (int k = 0; k < taps; k++) w[k] = T(all)(weight[k * 9 + i]);
#pragma GCC unroll 9
            for (int f = 0; f < (count - 1) * stride + taps; f++) {
                vec p = T(at)(at + f * b->frame), q = T(at)(at + f * b->frame + VL);
#pragma GCC unroll 4
                for (int j = 0; j < count; j++)
                    if (f >= j * stride && f - j * stride < taps) {
                        u[j] += w[f - j * stride] * p;
                        v[j] += w[f - j * stride] * q;
                    }
            }
        }
#pragma GCC unroll 4
        for (int j = 0; j < count; j++) {
            T(set)(b->out + j * b->step + x, u[j]);
            T(set)(b->out + j * b->step + x + VL, v[j]);
        }
    }
}

/* Convolve one row of up to 4 of `left` frames; return their number. */
static int T(convolve)(const struct T(band) * b, const REAL *from, const REAL *weight, int left, int stride) {
    int count = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    switch (b->s->taps * 100 + count * 10 + stride) {
#define CASE(taps, count, stride) \
    case taps * 100 + count * 10 + stride: T(convolve_row)(b, from, weight, taps, count, stride); break;
#define CASES_OF(taps, stride) CASE(taps, 4, stride) CASE(taps, 2, stride) CASE(taps, 1, stride)
#define CASES(taps) CASES_OF(taps, 1) CASES_OF(taps, 2)
        CASES(1) CASES(2) CASES(3)
#undef CASES
#undef CASES_OF
#undef CASE
    }
    return count;
}

static void T(depthwise)(const struct stage *s, int job, REAL *memory) {
    struct T(band) b = {.plane = job, .channel = job % s->inputs};
    memset(memory, 0, T(plan_band)(&b, s, 0) * sizeof(REAL));
    b.input = memory, b.out = memory + b.frames * b.frame;
    const REAL *weight = (const REAL *)s->weight + b.channel * s->taps * 9;
    struct T(sums) sums = {.count = 0};
    for (b.y = 0; b.y < s->height; b.y += b.rows) {
        T(read_band)(&b);
        for (int y = b.y; y < b.y + b.rows && y < s->height; y += s->space)
            for (int t = 0, count; t < s->frames_out; t += count) {
                const REAL *from = b.input + t * s->stride * b.frame + (y - b.y) * b.step + VL;
                count = T(convolve)(&b, from, weight, s->frames_out - t, s->stride);
                for (int j = 0; j < count; j++) {
                    REAL *row = b.out + j * b.step;
                    for (int x = 1; x < s->width_out && s->space == 2; x++) row[x] = row[2 * x];
                    STORED *to = (STORED *)s->output +
                                 ((b.plane * s->frames_out + t + j) * s->height_out + y / s->space) * s->width_out;
                    for (int x = 0; x < s->width_out; x += VL) T(put_some)(to + x, T(at)(row + x), s->width_out - x);
                    T(add_statistics)(&sums, row, s->width_out);
                }
            }
    }
    T(write_statistics)(&sums, s->sums + (int64_t)job * 3);
}

/* Add the products of the gradient and the input for `taps` taps from `first` on, of the kernel's `all`. */
INLINE void T(add_tap_products)(const struct T(band) * b, REAL *sums, const int all, const int first, const int taps) {
    vec a[27] = {0};
    for (int t = 0; t < b->s->frames; t++)
        for (int row = 0; row < b->rows; row++) {
            const REAL *input = b->input + (t + b->s->padding) * b->frame + row * b->step + VL;
            const REAL *gradient = b->gradient + (t + all - 1 - first) * b->frame + (row + 1) * b->step + VL;
            for (int x = 0; x < b->s->width; x += VL) {
                vec g[3];
#pragma GCC unroll 3
                for (int k = 0; k < taps; k++) g[k] = T(at)(gradient + x - k * b->frame);
#pragma GCC unroll 9
                for (int i = 0; i < 9; i++) {
                    vec v = T(at)(input + i / 3 * b->step + i % 3 - 1 + x);
#pragma GCC unroll 3
                    for (int k = 0; k < taps; k++) a[k * 9 + i] += g[k] * v;
                }
            }
        }
    for (int i = 0; i < taps * 9; i++) sums[first * 9 + i] += T(total)(a[i]);
}

static void T(add_band_products)(const struct T(band) * b, REAL *sums) {
#if FLOATS == 16 /* 27 sums fit into the registers */
    switch (b->s->taps) {
    case 1: T(add_tap_products)(b, sums, 1, 0, 1); break;
    case 2: T(add_tap_products)(b, sums, 2, 0, 2); break;
    case 3: T(add_tap_products)(b, sums, 3, 0, 3); break;
    }
#else
    for (int k = 0; k < b->s->taps; k++) T(add_tap_products)(b, sums, b->s->taps, k, 1);
#endif
}

static void T(depthwise_gradient)(const struct stage *s, int job, REAL *memory) {
    struct T(band) b = {.plane = job, .channel = job % s->inputs};
    memset(memory, 0, T(plan_band)(&b, s, 1) * sizeof(REAL));
    b.input = memory, b.gradient = b.input + b.frames * b.frame, b.out = b.gradient + b.gradient_frames * b.frame;
    int size = s->taps * 9;
    REAL flipped[27], products[27] = {0};
    for (int i = 0; i < size; i++) flipped[i] = ((const REAL *)s->weight)[b.channel * size + size - 1 - i];
    struct T(sums) sums = {.pivot = s->in_mean ? ((const REAL *)s->in_mean)[b.channel] : 0};
    for (b.y = 0; b.y < s->height; b.y += b.rows) {
        T(read_band)(&b);
        T(read_gradient_band)(&b);
        if (s->weight_gradient) T(add_band_products)(&b, products);
        for (int y = b.y; y < b.y + b.rows && y < s->height && s->result; y++)
            for (int t = 0, count; t < s->frames; t += count) {
                const REAL *from = b.gradient + t * b.frame + (y - b.y) * b.step + VL;
                count = T(convolve)(&b, from, flipped, s->frames - t, 1);
                for (int j = 0; j < count; j++) {
                    int64_t offset = ((b.plane * s->frames + t + j) * s->height + y) * s->width;
                    const REAL *input = b.input + (t + j + s->padding) * b.frame + (y - b.y + 1) * b.step + VL;
                    T(finish_gradient)(s, &sums, b.out + j * b.step, input, offset, s->width);
                }
            }
    }
    if (s->in_mean) s->sums[job * 2] = T(total)(sums.first), s->sums[job * 2 + 1] = T(total)(sums.second);
    if (s->weight_gradient) memcpy((REAL *)s->weight_gradient + (int64_t)job * size, products, size * sizeof(REAL));
}

/* ---- passes without a convolution ------------------------------------------------------------------------------ */

static void T(statistics)(const struct stage *s, int job) {
    int64_t pixels = (int64_t)s->frames * s->height * s->width;
    const STORED *from = (const STORED *)s->output + job * pixels;
    struct T(sums) sums = {.count = 0};
    for (int64_t first = 0; first < pixels; first += TILE) {
        REAL tile[TILE];
        int n = pixels - first < TILE ? pixels - first : TILE;
        for (int i = 0; i < n; i += VL) T(set)(tile + i, T(get_some)(from + first + i, n - i));
        T(add_statistics)(&sums, tile, n);
    }
    T(write_statistics)(&sums, s->sums + (int64_t)job * 3);
}

static void T(gradient_sums)(const struct stage *s, int job) {
    int64_t pixels = (int64_t)s->frames * s->height * s->width;
    struct T(reader) r = T(gradient_reader)(s, job % s->outputs);
    vec mean = T(all)(((const REAL *)s->in_mean)[job % s->outputs]), first = {0}, second = {0};
    const STORED *gradient = (const STORED *)s->gradient + job * pixels;
    const STORED *output = (const STORED *)s->output + job * pixels;
    for (int64_t i = 0; i < pixels; i += VL) {
        int n = pixels - i < VL ? pixels - i : VL;
        vec g = T(get_some)(gradient + i, n), v = T(get_some)(output + i, n);
        if (r.masked) g = T(inside)(v * r.scale + r.shift, g);
        first += g;
        second += g * (v - mean);
    }
    s->sums[job * 2] = T(total)(first), s->sums[job * 2 + 1] = T(total)(second);
}

static void T(normalize)(const struct stage *s, int job) {
    int64_t pixels = (int64_t)s->frames * s->height * s->width;
    struct T(reader) r = T(input_reader)(s, job % s->inputs);
    const STORED *from = (const STORED *)s->input + job * pixels, *added = s->added;
    STORED *to = (STORED *)s->result + job * pixels;
    for (int64_t i = 0; i < pixels; i += VL) {
        int n = pixels - i < VL ? pixels - i : VL;
        vec v = T(read_input)(&r, T(get_some)(from + i, n));
        if (added) v += T(get_some)(added + job * pixels + i, n);
        T(put_some)(to + i, v, n);
    }
}

static void T(apply_gradient)(const struct stage *s, int job) {
    int64_t pixels = (int64_t)s->frames * s->height * s->width;
    struct T(reader) r = T(gradient_reader)(s, job % s->outputs);
    const STORED *gradient = (const STORED *)s->gradient + job * pixels;
    const STORED *output = (const STORED *)s->output + job * pixels;
    STORED *to = (STORED *)s->result + job * pixels;
    for (int64_t i = 0; i < pixels; i += VL) {
        int n = pixels - i < VL ? pixels - i : VL;
        T(put_some)(to + i, T(read_gradient)(&r, T(get_some)(gradient + i, n), T(get_some)(output + i, n)), n);
    }
}

/* ---- upsampling ------------------------------------------------------------------------------------------------ */

/* Pixel shuffle of the frames of one channel of the result, or back. */
static void T(shuffle)(const struct stage *s, int job, int back) {
    int64_t pixels = (int64_t)s->frames * s->height * s->width;
    int width = s->width;
    for (int part = 0; part < 4; part += 2)
        for (int64_t row = 0; row < (int64_t)s->frames * s->height; row++) {
            int64_t narrow = (4 * (int64_t)job + part) * pixels + row * width;
            int64_t wide = 4 * (int64_t)job * pixels + (4 * row + part) * width;
            if (back) {
                const STORED *from = (const STORED *)s->gradient + wide;
                STORED *even = (STORED *)s->result + narrow, *odd = even + pixels;
                for (int x = 0; x < width; x++) even[x] = from[2 * x], odd[x] = from[2 * x + 1];
            } else {
                const STORED *even = (const STORED *)s->input + narrow, *odd = even + pixels;
                STORED *restrict to = (STORED *)s->result + wide;
                for (int x = 0; x < width; x++) to[2 * x] = even[x], to[2 * x + 1] = odd[x];
            }
        }
}

/* A position on a smaller axis, between `index` and `next`, with aligned corners, rounded like PyTorch. */
struct T(position) {
    int index, next;
    REAL fraction;
};

INLINE struct T(position) T(source)(int position, int small, int large) {
    REAL exact = (large > 1 ? (REAL)(small - 1) / (REAL)(large - 1) : 0) * (REAL)position;
    int index = exact < small - 1 ? (int)exact : small - 1;
    int next = index < small - 1 ? index + 1 : index;
    return (struct T(position)){index, next, next > index ? exact - index : 0};
}

/* Interpolate one plane linearly in time and space: first the rows of the input, then between them. */
static void T(interpolate)(const struct stage *s, int job, REAL *memory) {
    int w = s->width, wide = s->width_out, step = ROUNDED(wide);
    const STORED *from = (const STORED *)s->input + (int64_t)job * s->frames * s->height * w;
    STORED *to = (STORED *)s->result + (int64_t)job * s->frames_out * s->height_out * wide;
    REAL *row = memory + (int64_t)s->frames * s->height * step;
    for (int r = 0; r < s->frames * s->height; r++) {
        REAL *out = memory + (int64_t)r * step;
        for (int x = 0; x < w; x += VL) T(set)(row + x, T(get_some)(from + (int64_t)r * w + x, w - x));
        for (int x = 0; x < wide; x++) {
            struct T(position) p = T(source)(x, w, wide);
            out[x] = row[p.index] + (row[p.next] - row[p.index]) * p.fraction;
        }
    }
    for (int t = 0; t < s->frames_out; t++)
        for (int y = 0; y < s->height_out; y++, to += wide) {
            struct T(position) time = T(source)(t, s->frames, s->frames_out);
            struct T(position) down = T(source)(y, s->height, s->height_out);
            const REAL *first = memory + (int64_t)time.index * s->height * step;
            const REAL *second = memory + (int64_t)time.next * s->height * step;
            for (int x = 0; x < wide; x += VL) {
                vec a = T(at)(first + down.index * step + x), b = T(at)(second + down.index * step + x);
                if (down.fraction > 0) {
                    a += (T(at)(first + down.next * step + x) - a) * down.fraction;
                    b += (T(at)(second + down.next * step + x) - b) * down.fraction;
                }
                T(put_some)(to + x, a + (b - a) * time.fraction, wide - x);
            }
        }
}

/* Add a multiple of a row to another. */
INLINE void T(add_row)(REAL *to, const STORED *from, REAL factor, int width) {
    for (int x = 0; x < width; x += VL) T(set)(to + x, T(at)(to + x) + T(get_some)(from + x, width - x) * factor);
}

static void T(interpolate_gradient)(const struct stage *s, int job, REAL *memory) {
    int w = s->width, wide = s->width_out, step = ROUNDED(wide);
    const STORED *from = (const STORED *)s->gradient + (int64_t)job * s->frames_out * s->height_out * wide;
    STORED *to = (STORED *)s->result + (int64_t)job * s->frames * s->height * w;
    REAL *row = memory + (int64_t)s->frames * s->height * step;
    memset(memory, 0, (int64_t)s->frames * s->height * step * sizeof(REAL));
    for (int t = 0; t < s->frames_out; t++)
        for (int y = 0; y < s->height_out; y++, from += wide) {
            struct T(position) time = T(source)(t, s->frames, s->frames_out);
            struct T(position) down = T(source)(y, s->height, s->height_out);
            for (int k = 0; k < 4; k++) {
                REAL factor = (k & 1 ? down.fraction : 1 - down.fraction) * (k & 2 ? time.fraction : 1 - time.fraction);
                int frame = k & 2 ? time.next : time.index, line = k & 1 ? down.next : down.index;
                if (factor > 0) T(add_row)(memory + ((int64_t)frame * s->height + line) * step, from, factor, wide);
            }
        }
    for (int r = 0; r < s->frames * s->height; r++) {
        const REAL *sums = memory + (int64_t)r * step;
        memset(row, 0, w * sizeof(REAL));
        for (int x = 0; x < wide; x++) {
            struct T(position) p = T(source)(x, w, wide);
            row[p.index] += sums[x] * (1 - p.fraction);
            row[p.next] += sums[x] * p.fraction;
        }
        for (int x = 0; x < w; x += VL) T(put_some)(to + (int64_t)r * w + x, T(at)(row + x), w - x);
    }
}

/* ---- jobs ------------------------------------------------------------------------------------------------------ */

/* Return the numbers of memory that a thread needs. */
static int64_t T(memory)(const struct stage *s) {
    int64_t inputs = s->inputs + 3, outputs = s->outputs + 3, most = inputs > outputs ? inputs : outputs;
    int64_t sums = most * (int64_t)(sizeof(struct T(sums)) / sizeof(REAL));
    struct T(band) band;
    switch (s->operation) {
    case POINTWISE: return (inputs + PART) * STEP + sums;
    case POINTWISE_GRADIENT: return (inputs + outputs + PART) * STEP + sums + inputs * outputs;
    case DEPTHWISE: return T(plan_band)(&band, s, 0);
    case DEPTHWISE_GRADIENT: return T(plan_band)(&band, s, 1);
    case INTERPOLATE:
    case INTERPOLATE_GRADIENT: return (int64_t)s->frames * s->height * ROUNDED(s->width_out) + ROUNDED(s->width);
    default: return 0;
    }
}

static int32_t T(run)(struct stage *s) {
    int64_t size = T(memory)(s);
    REAL *memory = size ? allocate(size * (int64_t)sizeof(REAL)) : NULL;
    if (size && !memory) return 1;
    int pointwise = s->operation == POINTWISE || s->operation == POINTWISE_GRADIENT;
    int jobs = pointwise ? SLOTS : s->count * s->outputs, job;
    while ((job = __atomic_fetch_add(&s->next, 1, __ATOMIC_RELAXED)) < jobs) switch (s->operation) {
        case POINTWISE: T(pointwise)(s, job, memory); break;
        case POINTWISE_GRADIENT: T(pointwise_gradient)(s, job, memory); break;
        case DEPTHWISE: T(depthwise)(s, job, memory); break;
        case DEPTHWISE_GRADIENT: T(depthwise_gradient)(s, job, memory); break;
        case STATISTICS: T(statistics)(s, job); break;
        case GRADIENT_SUMS: T(gradient_sums)(s, job); break;
        case NORMALIZE: T(normalize)(s, job); break;
        case APPLY_GRADIENT: T(apply_gradient)(s, job); break;
        case SHUFFLE: T(shuffle)(s, job, 0); break;
        case SHUFFLE_GRADIENT: T(shuffle)(s, job, 1); break;
        case INTERPOLATE: T(interpolate)(s, job, memory); break;
        case INTERPOLATE_GRADIENT: T(interpolate_gradient)(s, job, memory); break;
        }
    release(memory);
    return 0;
}

#undef VL
#undef vec
#undef whole_vec
#undef ROUNDED
#undef ROUNDED_PAIRS
