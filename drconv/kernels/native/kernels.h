// The kernels of one instruction set.
#pragma once

#include "drconv_native.h"

struct drconv_kernels {
  int64_t (*forward)(const drconv_conv*, const void* input, const void* filters, const int32_t* mask,
                     const float* scores, const float* bias, int64_t activation, void* output, void* scratch,
                     int64_t scratch_bytes, int64_t* needed);
  int64_t (*input_gradient)(const drconv_conv*, const void* grad_output, const void* filters, const int32_t* mask,
                            void* grad_input, void* scratch, int64_t scratch_bytes, int64_t* needed);
  int64_t (*filter_gradient)(const drconv_conv*, const void* grad_output, const void* input, const int32_t* mask,
                             void* grad_filters, void* scratch, int64_t scratch_bytes, int64_t* needed);
  int64_t (*products)(const drconv_conv*, const void* grad_output, const void* input, const void* filters,
                      float* products, void* scratch, int64_t scratch_bytes, int64_t* needed);
  int64_t (*packed_size)(const drconv_layer*);
  void (*pack)(const drconv_layer*, const drconv_parameters*, float* packed);
  int64_t (*infer)(const drconv_layer*, const drconv_parameters*, const float* input, const float* scores, int64_t seed,
                   float* output, void* scratch, int64_t scratch_bytes, int64_t* needed);
  void (*argmax)(const float* scores, int64_t batch, int64_t regions, int64_t positions, int64_t batch_stride,
                 int64_t region_stride, int64_t position_stride, int64_t threads, int32_t* mask);
};

extern "C" {
extern const drconv_kernels drconv_kernels_portable;
#ifdef DRCONV_WITH_AVX2
extern const drconv_kernels drconv_kernels_avx2;
#endif
#ifdef DRCONV_WITH_AVX512
extern const drconv_kernels drconv_kernels_avx512;
#endif
}
