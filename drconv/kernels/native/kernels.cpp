// All kernels, for the instruction set of the compiler's flags; DRCONV_TABLE names the table that holds them.
#include "kernels.h"

#include "filter_gradient.h"
#include "forward.h"
#include "fused_filters.h"
#include "fused_tiles.h"
#include "input_gradient.h"
#include "lookup.h"
#include "products.h"

namespace {

// Runs a pass, or with `needed` only says how much scratch memory it takes.
template <class Pass>
int64_t run(Pass& pass, int64_t scratch_bytes, int64_t* needed) {
  if (needed) {
    *needed = pass.scratch_bytes();
    return DRCONV_OK;
  }
  if (scratch_bytes < pass.scratch_bytes()) return DRCONV_SCRATCH_TOO_SMALL;
  pass.run();
  return DRCONV_OK;
}

template <class Pass>
int64_t run_masked(Pass pass, int64_t scratch_bytes, int64_t* needed) {
  const int64_t status = run(pass, scratch_bytes, needed);
  return pass.failed ? static_cast<int64_t>(DRCONV_BAD_MASK) : status;
}

// What the pointers of a call point to is float, or Bfloat16 where the sizes say so.
template <class E>
struct Passes {
  static const E* in(const void* p) { return static_cast<const E*>(p); }
  static E* out(void* p) { return static_cast<E*>(p); }

  static int64_t forward(const drconv_conv& c, const void* input, const void* filters, const Regions& where,
                         const Epilogue& epilogue, void* output, void* scratch, int64_t bytes, int64_t* needed) {
    if (LookupOf<E>::suits(c))
      return run_masked(LookupOf<E>(c, in(input), in(filters), where, epilogue, out(output), scratch), bytes, needed);
    return run_masked(ForwardOf<E>(c, false, in(input), in(filters), where, epilogue, out(output), scratch), bytes,
                      needed);
  }

  static int64_t input_gradient(const drconv_conv& c, const void* grad, const void* filters, const int32_t* mask,
                                void* grad_input, void* scratch, int64_t bytes, int64_t* needed) {
    if (Geometry::is_pointwise(c))
      return run_masked(
          ForwardOf<E>(c, true, in(grad), in(filters), {mask, {}}, kNoEpilogue, out(grad_input), scratch), bytes, needed);
    return run_masked(InputGradient<E>(c, in(grad), in(filters), mask, out(grad_input), scratch), bytes, needed);
  }

  static int64_t filter_gradient(const drconv_conv& c, const void* grad, const void* input, const int32_t* mask,
                                 void* grad_filters, void* scratch, int64_t bytes, int64_t* needed) {
    return run_masked(FilterGradient<E>(c, in(grad), in(input), mask, out(grad_filters), scratch), bytes, needed);
  }

  static int64_t products(const drconv_conv& c, const void* grad, const void* input, const void* filters, float* found,
                          void* scratch, int64_t bytes, int64_t* needed) {
    Products<E> pass(c, in(grad), in(input), in(filters), found, scratch);
    return run(pass, bytes, needed);
  }
};

int64_t forward(const drconv_conv* c, const void* input, const void* filters, const int32_t* mask,
                const float* scores, const float* bias, int64_t activation, void* output, void* scratch,
                int64_t scratch_bytes, int64_t* needed) {
  const Regions where = {mask, {scores, c->score_batch_stride, c->score_region_stride, c->score_position_stride}};
  return (c->bfloat16 ? Passes<Bfloat16>::forward : Passes<float>::forward)(
      *c, input, filters, where, {bias, activation}, output, scratch, scratch_bytes, needed);
}

int64_t input_gradient(const drconv_conv* c, const void* grad_output, const void* filters, const int32_t* mask,
                       void* grad_input, void* scratch, int64_t scratch_bytes, int64_t* needed) {
  return (c->bfloat16 ? Passes<Bfloat16>::input_gradient : Passes<float>::input_gradient)(
      *c, grad_output, filters, mask, grad_input, scratch, scratch_bytes, needed);
}

int64_t filter_gradient(const drconv_conv* c, const void* grad_output, const void* input, const int32_t* mask,
                        void* grad_filters, void* scratch, int64_t scratch_bytes, int64_t* needed) {
  return (c->bfloat16 ? Passes<Bfloat16>::filter_gradient : Passes<float>::filter_gradient)(
      *c, grad_output, input, mask, grad_filters, scratch, scratch_bytes, needed);
}

int64_t products(const drconv_conv* c, const void* grad_output, const void* input, const void* filters, float* found,
                 void* scratch, int64_t scratch_bytes, int64_t* needed) {
  return (c->bfloat16 ? Passes<Bfloat16>::products : Passes<float>::products)(
      *c, grad_output, input, filters, found, scratch, scratch_bytes, needed);
}

int64_t packed_size(const drconv_layer* layer) {
  return Generator(*layer, nullptr).packed_count() * static_cast<Int>(sizeof(float));
}

void pack(const drconv_layer* layer, const drconv_parameters* parameters, float* packed) {
  struct Packing {
    Generator generator;
    const drconv_parameters* parameters;
    float* packed;
  } packing = {Generator(*layer, nullptr), parameters, packed};
  const Int lists = layer->generator == DRCONV_BASIS ? 1 : layer->conv.regions;
  drconv_run_tasks(layer->conv.threads, lists, [](void* data, Int index, Int) {
    const Packing& p = *static_cast<const Packing*>(data);
    p.generator.pack_list(*p.parameters, p.packed, index);
  }, &packing);
}

template <class Pass>
int64_t infer_by(const drconv_layer& layer, const drconv_parameters* parameters, const float* input,
                 const float* scores, int64_t seed, float* output, void* scratch, int64_t scratch_bytes,
                 int64_t* needed) {
  Pass pass(layer, parameters, input, scores, output, scratch);
  if (parameters && pass.generator.is_stale(*parameters, seed)) return DRCONV_STALE;
  return run(pass, scratch_bytes, needed);
}

int64_t infer(const drconv_layer* layer, const drconv_parameters* parameters, const float* input, const float* scores,
              int64_t seed, float* output, void* scratch, int64_t scratch_bytes, int64_t* needed) {
  return FusedTiles::suits(*layer)
             ? infer_by<FusedTiles>(*layer, parameters, input, scores, seed, output, scratch, scratch_bytes, needed)
             : infer_by<FusedFilters>(*layer, parameters, input, scores, seed, output, scratch, scratch_bytes, needed);
}

struct Argmax {
  Scores scores;
  Int regions, positions, chunk, chunks;
  int32_t* mask;

  void task(Int index) const {
    const Int sample = index / chunks, first = index % chunks * chunk;
    scores.regions_of(sample, first, least(chunk, positions - first), regions, mask + sample * positions + first);
  }
};

void argmax(const float* scores, int64_t batch, int64_t regions, int64_t positions, int64_t batch_stride,
            int64_t region_stride, int64_t position_stride, int64_t threads, int32_t* mask) {
  // Less than this is not worth waking a thread for.
  constexpr Int kChunk = 4096;
  Argmax pass = {{scores, batch_stride, region_stride, position_stride}, regions, positions, kChunk,
                 ceil_div(positions, kChunk), mask};
  if (batch * positions <= kChunk) threads = 1;
  drconv_run_tasks(threads, batch * pass.chunks, [](void* self, Int index, Int) {
    static_cast<const Argmax*>(self)->task(index);
  }, &pass);
}

}  // namespace

extern "C" const drconv_kernels DRCONV_TABLE = {
    forward, input_gradient, filter_gradient, products, packed_size, pack, infer, argmax};
