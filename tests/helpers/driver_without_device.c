// A CUDA driver, libcuda.so.1, that has no device and pretends to have one. Memory is the host's,
// copies are real, and kernels are loaded and launched but never run. It shows what happens between
// a backend and the driver: which types are passed, and what becomes of an error.
//
// Whatever is not defined here succeeds and does nothing. $LAUNCHES_FAIL is the error of launches.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
enum { SUCCESS, INVALID_VALUE, OUT_OF_MEMORY };
static const size_t MEMORY = 1ull << 30;
static void *current;

static Result nothing(void) { return SUCCESS; }
static void *handle(void) { return calloc(1, 8); }  // no two are the same, so none is given back

Result cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
                           int *status) {
    Dl_info here;
    dladdr((void *)cuGetProcAddress_v2, &here);
    void *library = dlopen(here.dli_fname, RTLD_LAZY);
    char newer[128];
    snprintf(newer, sizeof newer, "%s_v2", name);
    *function = dlsym(library, newer);
    if (!*function) *function = dlsym(library, name);
    if (!*function) *function = (void *)nothing;
    if (status) *status = 0;
    return SUCCESS;
}

Result cuInit(unsigned flags) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
Result cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
Result cuDeviceGet(int *device, int number) { return *device = number, SUCCESS; }
Result cuDeviceGetName(char *name, int size, int device) {
    return snprintf(name, size, "no device"), SUCCESS;
}
Result cuDeviceGetUuid_v2(char *bytes, int device) { return memset(bytes, 7, 16), SUCCESS; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    enum { MULTIPROCESSORS = 16, MAJOR = 75, MINOR = 76 };
    *value = attribute == MAJOR ? 9 : attribute == MINOR ? 0 : attribute == MULTIPROCESSORS ? 3 : 1024;
    return SUCCESS;
}

Result cuDevicePrimaryCtxRetain(void **context, int device) {
    static void *primary;
    if (!primary) primary = handle();
    return *context = primary, SUCCESS;
}
Result cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    return *flags = 0, *active = 1, SUCCESS;
}
Result cuCtxGetCurrent(void **context) { return *context = current, SUCCESS; }
Result cuCtxSetCurrent(void *context) { return current = context, SUCCESS; }
Result cuCtxPushCurrent_v2(void *context) { return current = context, SUCCESS; }
Result cuCtxPopCurrent_v2(void **context) {
    if (context) *context = current;
    return current = NULL, SUCCESS;
}
Result cuCtxGetDevice(int *device) { return *device = 0, SUCCESS; }

Result cuMemGetInfo_v2(size_t *available, size_t *total) {
    return *available = *total = MEMORY, SUCCESS;
}
Result cuMemAlloc_v2(void **address, size_t size) {
    if (size == 0) return INVALID_VALUE;
    if (size > MEMORY) return OUT_OF_MEMORY;
    return *address = calloc(1, size), SUCCESS;
}
Result cuMemFree_v2(void *address) { return free(address), SUCCESS; }
Result cuMemcpyHtoD_v2(void *to, void *from, size_t size) { return memcpy(to, from, size), SUCCESS; }
Result cuMemcpyDtoH_v2(void *to, void *from, size_t size) { return memcpy(to, from, size), SUCCESS; }
Result cuMemcpyDtoD_v2(void *to, void *from, size_t size) { return memcpy(to, from, size), SUCCESS; }

Result cuModuleLoadDataEx(void **module, void *image, unsigned count, void *options, void *values) {
    return *module = handle(), SUCCESS;
}
Result cuLibraryLoadData(void **library, void *image, void *options, void *values, unsigned count,
                         void *library_options, void *library_values, unsigned library_count) {
    return *library = handle(), SUCCESS;
}
Result cuModuleGetFunction(void **function, void *module, char *name) {
    return *function = handle(), SUCCESS;
}
Result cuLibraryGetKernel(void **kernel, void *library, char *name) {
    return *kernel = handle(), SUCCESS;
}
Result cuKernelGetFunction(void **function, void *kernel) { return *function = kernel, SUCCESS; }
Result cuFuncGetAttribute(int *value, int attribute, void *function) {
    return *value = 1024, SUCCESS;
}
Result cuLaunchKernelEx(void *config, void *function, void **parameters, void **extra) {
    const char *error = getenv("LAUNCHES_FAIL");
    return error ? atoi(error) : SUCCESS;
}

Result cuEventCreate(void **event, unsigned flags) { return *event = handle(), SUCCESS; }
Result cuEventElapsedTime_v2(float *milliseconds, void *start, void *stop) {
    return *milliseconds = 2, SUCCESS;
}
Result cuStreamGetCtx(void *stream, void **context) { return *context = current, SUCCESS; }
Result cuGetErrorName(int error, const char **name) {
    *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_LAUNCH_FAILED";
    return SUCCESS;
}
Result cuGetErrorString(int error, const char **text) { return *text = "it failed", SUCCESS; }
