/* Runs the compiled C code of tinyhd on another kind of machine, emulated: `emulators.py` writes the input and reads the
 * output.
 *
 *     run_elsewhere LIBRARY FUNCTION INPUT OUTPUT
 *
 * The input is one block of memory: `struct header`, `relocations` pairs of offsets (of a pointer, and of the memory that
 * it points to), and the data. The output is that memory after the call.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <windows.h>
#define OPEN(name) LoadLibraryA(name)
#define FIND(library, name) (void *)GetProcAddress(library, name)
#else
#include <dlfcn.h>
#define OPEN(name) dlopen(name, RTLD_NOW)
#define FIND(library, name) dlsym(library, name)
#endif

struct header {
    int64_t relocations, argument, threads, layouts;
    int32_t layout[16]; /* expected by kernels.py */
};

/* The arguments of the functions that have several. */
union argument {
    struct {
        uint8_t *prediction, *mask;
        float *levels, *gauss;
        double close, missed;
        int32_t height, width;
        float rate;
        int32_t failed;
    } sums;
    struct {
        void *image, *rows, *columns;
        float *factors, *shifts, *row, *result;
        int64_t stride;
        int32_t pixels, height, width;
    } resize;
};

static void (*run)(void *, void *);
static void *program;

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void *thread(void *memory)
{
    run(program, memory);
    return NULL;
}

static void run_program(void *library, const struct header *head)
{
    pthread_t threads[16];
    int64_t (*scratch)(void *) = FIND(library, "scratch");
    size_t size = scratch(program);
    const int32_t *layout = FIND(library, "layout");
    for (int i = 0; i < head->layouts; i++)
        if (layout[i] != head->layout[i])
            fail("the library was compiled for another layout");
    for (int i = 0; i < head->threads; i++)
        if (pthread_create(&threads[i], NULL, thread, malloc(size)))
            fail("no thread");
    for (int i = 0; i < head->threads; i++)
        pthread_join(threads[i], NULL);
}

static void call(void *library, const char *name, const struct header *head, union argument *a)
{
    void *function = FIND(library, name);
    if (!function)
        fail("the library lacks the function");
    if (!strcmp(name, "run")) {
        run = function, program = a;
        run_program(library, head);
    } else if (!strcmp(name, "weighted_f_sums")) {
        int (*sums)(void *, void *, int, int, float *, float *, float, double *, double *) = function;
        a->sums.failed = sums(a->sums.prediction, a->sums.mask, a->sums.height, a->sums.width, a->sums.levels,
                              a->sums.gauss, a->sums.rate, &a->sums.close, &a->sums.missed);
    } else if (!strcmp(name, "resize")) {
        void (*resize)(void *, ptrdiff_t, int, void *, int, void *, int, float *, float *, float *, float *) = function;
        resize(a->resize.image, a->resize.stride, a->resize.pixels, a->resize.rows, a->resize.height, a->resize.columns,
               a->resize.width, a->resize.factors, a->resize.shifts, a->resize.row, a->resize.result);
    } else if (!strcmp(name, "reduce") || !strcmp(name, "paint")) {
        void (*function_of_structure)(void *) = function;
        function_of_structure(a);
    } else {
        fail("unknown function");
    }
}

int main(int count, char **arguments)
{
    static _Alignas(64) char memory[1 << 28];
    if (count != 5)
        fail("usage: run_elsewhere LIBRARY FUNCTION INPUT OUTPUT");
    FILE *file = fopen(arguments[3], "rb");
    size_t size = file ? fread(memory, 1, sizeof memory, file) : 0;
    if (size < sizeof(struct header) || size == sizeof memory)
        fail("the input cannot be read, or is too large");
    fclose(file);
    struct header *head = (void *)memory;
    for (int64_t i = 0, *pair = (void *)(head + 1); i < head->relocations; i++, pair += 2)
        *(char **)(memory + pair[0]) = memory + pair[1];
    void *library = OPEN(arguments[1]);
    if (!library)
        fail("the library cannot be loaded");
    call(library, arguments[2], head, (void *)(memory + head->argument));
    file = fopen(arguments[4], "wb");
    if (!file || fwrite(memory, 1, size, file) != size || fclose(file))
        fail("the output cannot be written");
    return 0;
}
