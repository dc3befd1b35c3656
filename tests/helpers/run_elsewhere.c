/* Runs the compiled C code of tinyhd on another kind of machine, emulated: `emulators.py` writes the input and reads the
 * output.
 *
 *     run_elsewhere LIBRARY INPUT OUTPUT
 *
 * The input is one block of memory: `struct header`, `relocations` pairs of offsets (of a pointer, and of the memory that
 * it points to), and the data. The output is that memory after the call.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

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
    int64_t relocations, program, threads, layouts;
    int32_t layout[16]; /* expected by kernels.py */
};

struct weighted {
    uint8_t *prediction, *mask;
    float *levels, *gauss;
    double close, missed;
    int32_t height, width;
    float rate;
    int32_t failed;
};

static void (*run)(void *, float *);
static int64_t (*scratch)(void *);
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

static void run_program(const struct header *head)
{
    pthread_t threads[16];
    size_t size = (size_t)scratch(program) * sizeof(float);
    for (int i = 0; i < head->threads; i++)
        if (pthread_create(&threads[i], NULL, thread, malloc(size)))
            fail("no thread");
    for (int i = 0; i < head->threads; i++)
        pthread_join(threads[i], NULL);
}

int main(int count, char **arguments)
{
    static char memory[1 << 28];
    if (count != 4)
        fail("usage: run_elsewhere LIBRARY INPUT OUTPUT");
    FILE *file = fopen(arguments[2], "rb");
    size_t size = file ? fread(memory, 1, sizeof memory, file) : 0;
    if (size < sizeof(struct header) || size == sizeof memory)
        fail("the input cannot be read, or is too large");
    fclose(file);
    struct header *head = (void *)memory;
    for (int64_t i = 0, *pair = (void *)(head + 1); i < head->relocations; i++, pair += 2)
        *(char **)(memory + pair[0]) = memory + pair[1];
    program = memory + head->program;

    void *library = OPEN(arguments[1]);
    if (!library)
        fail("the library cannot be loaded");
    run = FIND(library, "run");
    scratch = FIND(library, "scratch");
    if (run) {
        const int32_t *layout = FIND(library, "layout");
        for (int i = 0; i < head->layouts; i++)
            if (layout[i] != head->layout[i])
                fail("the library was compiled for another layout");
        run_program(head);
    } else {
        int (*sums)(uint8_t *, uint8_t *, int, int, float *, float *, float, double *, double *);
        struct weighted *w = program;
        sums = FIND(library, "weighted_f_sums");
        w->failed = sums(w->prediction, w->mask, w->height, w->width, w->levels, w->gauss, w->rate, &w->close, &w->missed);
    }
    file = fopen(arguments[3], "wb");
    if (!file || fwrite(memory, 1, size, file) != size || fclose(file))
        fail("the output cannot be written");
    return 0;
}
