// The C interface of the compiled CPU kernels: what library.py calls through ctypes. No torch, no CPython.
#ifndef DRCONV_NATIVE_H
#define DRCONV_NATIVE_H

#include <stdint.h>

#define DRCONV_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

// Raised by one with every change of a structure or a function below.
#define DRCONV_ABI 6

enum drconv_isa { DRCONV_PORTABLE = 0, DRCONV_AVX2 = 1, DRCONV_AVX512 = 2, DRCONV_ISAS = 3 };

enum drconv_activation { DRCONV_NO_ACTIVATION = 0, DRCONV_RELU = 1, DRCONV_RELU6 = 2, DRCONV_HARDSWISH = 3 };

enum drconv_status {
  DRCONV_OK = 0,
  DRCONV_SCRATCH_TOO_SMALL = 1,  // the caller gave less scratch memory than the matching drconv_*_scratch asks for
  DRCONV_BAD_MASK = 2,           // a region index outside [0, regions)
  DRCONV_BAD_ISA = 3,            // not built in, or this CPU does not have it
  DRCONV_STALE = 4,              // the packed parameters are not those that were given
  DRCONV_MOVED = 5               // parameters are no longer where they were
};

// Sizes and strides of one region convolution. Strides count elements. All fields are int64.
typedef struct {
  int64_t batch, in_channels, out_channels, groups, regions;
  int64_t height, width, out_height, out_width;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  // 1: input, output and their gradients are [B, H, W, C] in memory; 0: [B, C, H, W]. All but the input are dense.
  int64_t channels_last;
  // Where channels_last, channels are adjacent and pixel_stride apart from the next pixel's; else a plane is dense
  // and planes are channel_stride apart.
  int64_t input_batch_stride, input_channel_stride, input_pixel_stride;
  // Filters [B, M, O, C/groups, K*K]; batch stride 0 where they are shared, and then shared is 1.
  int64_t shared, filter_batch_stride, filter_region_stride, filter_out_stride, filter_in_stride, filter_tap_stride;
  // Where scores [B, M, U*V] are given instead of a mask.
  int64_t score_batch_stride, score_region_stride, score_position_stride;
  int64_t threads;
  // 1: input, filters, output and their gradients are bfloat16; 0: float32. Arithmetic, scores, bias and products are
  // float32 either way.
  int64_t bfloat16;
} drconv_conv;

enum drconv_generator {
  DRCONV_POOLED = 0,  // filter (n, r) at tap t = sum over k of sigmoid(routing)[n, t, r, k] * made[r, k], + made bias
  DRCONV_BASIS = 1,   // filter (n, r) = sum over k of 2 / mixed * sigmoid(routing)[n, r, k] * made[k]
  DRCONV_LEARNED = 2  // filter r = made[r]
};

// A whole dynamic layer. All fields are int64.
typedef struct {
  drconv_conv conv;  // `shared` and the strides of the filters are not read, those of scores where they are given
  // The guide as a convolution with the regions as its output channels, one filter and one group; not read where
  // scores are given.
  drconv_conv guide;
  int64_t scores_given;
  int64_t output_channels_last;  // 1 also where the input is not; 0 only where it is not
  int64_t generator;
  int64_t mixed;  // how many filters are mixed into one; 1 where they are learned
} drconv_layer;

// What a layer has learned, dense float32; a bias may be null.
typedef struct {
  const float *guide_weight, *guide_bias;      // [M, C, K, K] in the strides of `guide`, [M]
  const float *routing_weight, *routing_bias;  // [M * mixed, C], [M * mixed]
  // pooled: [M * O * C/groups, mixed], [M * O * C/groups]; basis: [mixed, O, C/groups * K*K]; learned: [M, O, ...]
  const float *made_weight, *made_bias;
  const float* packed;  // from drconv_pack, of made_weight and made_bias
  const float* bias;    // [O]
  int64_t activation;
} drconv_parameters;

// GOMP_parallel of the process: called with (body, data, threads, 0), it runs body(data) on at most that many threads.
typedef void (*drconv_parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
// omp_get_thread_num and omp_get_num_threads: this thread's number in the team, and how many the team has.
typedef int (*drconv_team_number)(void);

DRCONV_API int64_t drconv_abi(void);
DRCONV_API int64_t drconv_conv_size(void);
DRCONV_API int64_t drconv_layer_size(void);

// 1 if these kernels were built in and this CPU can run them.
DRCONV_API int64_t drconv_has_isa(int64_t isa);

// Without it everything runs on the calling thread.
DRCONV_API void drconv_set_parallel(drconv_parallel parallel, drconv_team_number number, drconv_team_number size);

// Bytes of scratch memory, aligned to 64, that the function of the same name needs; no kernel allocates any.
DRCONV_API int64_t drconv_forward_scratch(int64_t isa, const drconv_conv* conv);
DRCONV_API int64_t drconv_input_gradient_scratch(int64_t isa, const drconv_conv* conv);
DRCONV_API int64_t drconv_filter_gradient_scratch(int64_t isa, const drconv_conv* conv);
DRCONV_API int64_t drconv_products_scratch(int64_t isa, const drconv_conv* conv);

// regions [B, U*V] of int32 from scores: sample, region and position strides as given.
DRCONV_API int64_t drconv_argmax(int64_t isa, const float* scores, int64_t batch, int64_t regions, int64_t positions,
                      int64_t batch_stride, int64_t region_stride, int64_t position_stride, int64_t threads,
                      int32_t* mask);

// output from input, filters and mask, or without a mask (null) the regions that drconv_argmax finds in the scores, which
// saves the mask's way through memory; then bias [O], or null, is added, and the activation applied.
DRCONV_API int64_t drconv_forward(int64_t isa, const drconv_conv* conv, const void* input, const void* filters,
                       const int32_t* mask, const float* scores, const float* bias, int64_t activation, void* output,
                       void* scratch, int64_t scratch_bytes);

// Bytes that the packed parameters of a layer take, and their packing; `packed` of `parameters` is not read.
DRCONV_API int64_t drconv_packed_size(int64_t isa, const drconv_layer* layer);
DRCONV_API int64_t drconv_pack(int64_t isa, const drconv_layer* layer, const drconv_parameters* parameters,
                    float* packed);

// The whole layer: regions from the guide or from `scores`, filters for those that occur, convolution, bias,
// activation. `parameters` was filled in before; where its tensors are now is given anew, in the same order, and nothing
// is done if they have moved, or if some elements of what was packed, drawn by `seed`, differ from the originals.
DRCONV_API int64_t drconv_infer_scratch(int64_t isa, const drconv_layer* layer);
DRCONV_API int64_t drconv_infer(int64_t isa, const drconv_layer* layer, const drconv_parameters* parameters,
                     const float* guide_weight, const float* guide_bias, const float* routing_weight,
                     const float* routing_bias, const float* made_weight, const float* made_bias, const float* bias,
                     const float* input, const float* scores, int64_t seed, float* output, void* scratch,
                     int64_t scratch_bytes);

// Gradient of the input, dense.
DRCONV_API int64_t drconv_input_gradient(int64_t isa, const drconv_conv* conv, const void* grad_output, const void* filters,
                              const int32_t* mask, void* grad_input, void* scratch, int64_t scratch_bytes);

// Gradient of the filters, dense [B, M, O, C/groups, K*K], without B where they are shared.
DRCONV_API int64_t drconv_filter_gradient(int64_t isa, const drconv_conv* conv, const void* grad_output, const void* input,
                               const int32_t* mask, void* grad_filters, void* scratch, int64_t scratch_bytes);

// <grad_output, filter j applied here> for every region j, dense [B, M, U*V].
DRCONV_API int64_t drconv_products(int64_t isa, const drconv_conv* conv, const void* grad_output, const void* input,
                        const void* filters, float* products, void* scratch, int64_t scratch_bytes);

#ifdef __cplusplus
}
#endif

#endif
