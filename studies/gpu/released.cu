// What the CUDA code released with the paper does, written anew from its description: one thread computes one output,
// reading one value of the input and one of the filter of its region per multiply-add; backward, one thread per output
// adds each of its products to the gradients in memory, atomically. NCHW, float32.
//
// Unlike the released code, regions are integers and offsets are 64 bits wide: there, a region is a float and so is the
// offset of its filter, which beyond 2^24 elements is wrong.
//
// columns [B, L, P], filters [B, M, O, L], regions [B, P], output [B, O, P]; L = C * K * K.

extern "C" __global__ void released_forward(
    const float* columns, const float* filters, const int* regions, float* output,
    int batch, int m, int outs, int length, int positions)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (long long)batch * outs * positions)
        return;
    long long p = i % positions, o = i / positions % outs, b = i / positions / outs;
    const float* filter = filters + ((b * m + regions[b * positions + p]) * outs + o) * length;
    const float* column = columns + b * length * positions + p;
    float total = 0;
    for (int l = 0; l < length; ++l)
        total += column[(long long)l * positions] * filter[l];
    output[i] = total;
}

// The gradients must be zero before; `products` [B, M, P] is that of the one-hot mask, for every region.
extern "C" __global__ void released_backward(
    const float* grad_output, const float* columns, const float* filters, const int* regions,
    float* grad_columns, float* grad_filters, float* products,
    int batch, int m, int outs, int length, int positions, int with_products)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (long long)batch * outs * positions)
        return;
    long long p = i % positions, o = i / positions % outs, b = i / positions / outs;
    long long chosen = ((b * m + regions[b * positions + p]) * outs + o) * length;
    long long column = b * length * positions + p;
    float g = grad_output[i];
    for (int l = 0; l < length; ++l) {
        atomicAdd(grad_columns + column + (long long)l * positions, g * filters[chosen + l]);
        atomicAdd(grad_filters + chosen + l, g * columns[column + (long long)l * positions]);
    }
    if (!with_products)
        return;
    for (int r = 0; r < m; ++r) {
        const float* filter = filters + ((b * m + r) * outs + o) * length;
        float total = 0;
        for (int l = 0; l < length; ++l)
            total += columns[column + (long long)l * positions] * filter[l];
        atomicAdd(products + (b * m + r) * positions + p, g * total);
    }
}
