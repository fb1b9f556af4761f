// The C interface: checks that the CPU has the instruction set, and calls its kernels. Compiled for any CPU.
#include "drconv_native.h"
#include "kernels.h"

namespace {

const drconv_kernels* kernels_of(int64_t isa) {
  if (isa == DRCONV_PORTABLE) return &drconv_kernels_portable;
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
#ifdef DRCONV_WITH_AVX2
  if (isa == DRCONV_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return &drconv_kernels_avx2;
#endif
#ifdef DRCONV_WITH_AVX512
  if (isa == DRCONV_AVX512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma"))
    return &drconv_kernels_avx512;
#endif
#endif
  return nullptr;
}

}  // namespace

extern "C" {

int64_t drconv_abi(void) { return DRCONV_ABI; }
int64_t drconv_conv_size(void) { return sizeof(drconv_conv); }
int64_t drconv_layer_size(void) { return sizeof(drconv_layer); }
int64_t drconv_has_isa(int64_t isa) { return kernels_of(isa) != nullptr; }

int64_t drconv_forward_scratch(int64_t isa, const drconv_conv* conv) {
  const drconv_kernels* kernels = kernels_of(isa);
  int64_t needed = -1;
  if (kernels) kernels->forward(conv, nullptr, nullptr, nullptr, nullptr, nullptr, 0, nullptr, nullptr, 0, &needed);
  return needed;
}

int64_t drconv_input_gradient_scratch(int64_t isa, const drconv_conv* conv) {
  const drconv_kernels* kernels = kernels_of(isa);
  int64_t needed = -1;
  if (kernels) kernels->input_gradient(conv, nullptr, nullptr, nullptr, nullptr, nullptr, 0, &needed);
  return needed;
}

int64_t drconv_filter_gradient_scratch(int64_t isa, const drconv_conv* conv) {
  const drconv_kernels* kernels = kernels_of(isa);
  int64_t needed = -1;
  if (kernels) kernels->filter_gradient(conv, nullptr, nullptr, nullptr, nullptr, nullptr, 0, &needed);
  return needed;
}

int64_t drconv_products_scratch(int64_t isa, const drconv_conv* conv) {
  const drconv_kernels* kernels = kernels_of(isa);
  int64_t needed = -1;
  if (kernels) kernels->products(conv, nullptr, nullptr, nullptr, nullptr, nullptr, 0, &needed);
  return needed;
}

int64_t drconv_infer_scratch(int64_t isa, const drconv_layer* layer) {
  const drconv_kernels* kernels = kernels_of(isa);
  int64_t needed = -1;
  if (kernels) kernels->infer(layer, nullptr, nullptr, nullptr, 0, nullptr, nullptr, 0, &needed);
  return needed;
}

int64_t drconv_packed_size(int64_t isa, const drconv_layer* layer) {
  const drconv_kernels* kernels = kernels_of(isa);
  return kernels ? kernels->packed_size(layer) : -1;
}

int64_t drconv_pack(int64_t isa, const drconv_layer* layer, const drconv_parameters* parameters, float* packed) {
  const drconv_kernels* kernels = kernels_of(isa);
  if (!kernels) return DRCONV_BAD_ISA;
  kernels->pack(layer, parameters, packed);
  return DRCONV_OK;
}

int64_t drconv_infer(int64_t isa, const drconv_layer* layer, const drconv_parameters* parameters,
                     const float* guide_weight, const float* guide_bias, const float* routing_weight,
                     const float* routing_bias, const float* made_weight, const float* made_bias, const float* bias,
                     const float* input, const float* scores, int64_t seed, float* output, void* scratch,
                     int64_t scratch_bytes) {
  const drconv_kernels* kernels = kernels_of(isa);
  if (!kernels) return DRCONV_BAD_ISA;
  const drconv_parameters& p = *parameters;
  if (p.guide_weight != guide_weight || p.guide_bias != guide_bias || p.routing_weight != routing_weight ||
      p.routing_bias != routing_bias || p.made_weight != made_weight || p.made_bias != made_bias || p.bias != bias)
    return DRCONV_MOVED;
  return kernels->infer(layer, parameters, input, scores, seed, output, scratch, scratch_bytes, nullptr);
}

int64_t drconv_argmax(int64_t isa, const float* scores, int64_t batch, int64_t regions, int64_t positions,
                      int64_t batch_stride, int64_t region_stride, int64_t position_stride, int64_t threads,
                      int32_t* mask) {
  const drconv_kernels* kernels = kernels_of(isa);
  if (!kernels) return DRCONV_BAD_ISA;
  kernels->argmax(scores, batch, regions, positions, batch_stride, region_stride, position_stride, threads, mask);
  return DRCONV_OK;
}

int64_t drconv_forward(int64_t isa, const drconv_conv* conv, const void* input, const void* filters,
                       const int32_t* mask, const float* scores, const float* bias, int64_t activation, void* output,
                       void* scratch, int64_t scratch_bytes) {
  const drconv_kernels* kernels = kernels_of(isa);
  if (!kernels) return DRCONV_BAD_ISA;
  return kernels->forward(conv, input, filters, mask, scores, bias, activation, output, scratch, scratch_bytes, nullptr);
}

int64_t drconv_input_gradient(int64_t isa, const drconv_conv* conv, const void* grad_output, const void* filters,
                              const int32_t* mask, void* grad_input, void* scratch, int64_t scratch_bytes) {
  const drconv_kernels* kernels = kernels_of(isa);
  if (!kernels) return DRCONV_BAD_ISA;
  return kernels->input_gradient(conv, grad_output, filters, mask, grad_input, scratch, scratch_bytes, nullptr);
}

int64_t drconv_filter_gradient(int64_t isa, const drconv_conv* conv, const void* grad_output, const void* input,
                               const int32_t* mask, void* grad_filters, void* scratch, int64_t scratch_bytes) {
  const drconv_kernels* kernels = kernels_of(isa);
  if (!kernels) return DRCONV_BAD_ISA;
  return kernels->filter_gradient(conv, grad_output, input, mask, grad_filters, scratch, scratch_bytes, nullptr);
}

int64_t drconv_products(int64_t isa, const drconv_conv* conv, const void* grad_output, const void* input,
                        const void* filters, float* products, void* scratch, int64_t scratch_bytes) {
  const drconv_kernels* kernels = kernels_of(isa);
  if (!kernels) return DRCONV_BAD_ISA;
  return kernels->products(conv, grad_output, input, filters, products, scratch, scratch_bytes, nullptr);
}

}  // extern "C"
