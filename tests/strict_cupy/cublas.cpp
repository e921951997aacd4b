// What of cuBLAS is called by its C interface: each function does what it was given to do.
extern "C" {
void* does[4];
int cublasCreate_v2(void** handle) { return ((int (*)(void**))does[0])(handle); }
int cublasSetStream_v2(void* handle, void* stream) { return ((int (*)(void*, void*))does[1])(handle, stream); }
int cublasSetWorkspace_v2(void* handle, void* at, unsigned long size) {
  return ((int (*)(void*, void*, unsigned long))does[2])(handle, at, size);
}
int cublasGemmEx(void* handle, int ta, int tb, int m, int n, int k, void* alpha, void* a, int at, int lda, void* b,
                 int bt, int ldb, void* beta, void* c, int ct, int ldc, int compute, int algorithm) {
  return ((int (*)(void*, int, int, int, int, int, void*, void*, int, int, void*, int, int, void*, void*, int, int, int,
                   int))does[3])(handle, ta, tb, m, n, k, alpha, a, at, lda, b, bt, ldb, beta, c, ct, ldc, compute,
                                 algorithm);
}
}
