/* cuBLAS 12 as far as faiss-gpu links to it. A handle is made and set up for every GPU, and succeeds here; products of matrices,
   of which Hamming search makes none, fail. Source of the names: `nm -D libfaiss.so`; of the numbers: cublasStatus_t. */

enum { SUCCESS = 0, NOT_SUPPORTED = 15 };

int cublasCreate_v2(void **handle)
{
    static int stub;
    *handle = &stub;
    return SUCCESS;
}

int cublasGetMathMode(void *handle, int *mode)
{
    (void)handle;
    *mode = 0;
    return SUCCESS;
}

int cublasDestroy_v2(void *handle) { (void)handle; return SUCCESS; }
int cublasSetMathMode(void *handle, int mode) { (void)handle; (void)mode; return SUCCESS; }
int cublasSetStream_v2(void *handle, void *stream) { (void)handle; (void)stream; return SUCCESS; }

int cublasGemmEx(void) { return NOT_SUPPORTED; }
int cublasGemmStridedBatchedEx(void) { return NOT_SUPPORTED; }
int cublasSgemmEx(void) { return NOT_SUPPORTED; }
