// What is done to a result before it is stored: a bias per output channel, then an activation.
#pragma once

#include "drconv_native.h"
#include "vectors.h"

namespace {

struct Epilogue {
  const float* bias;  // of the first channel; null where there is none
  Int activation;     // a drconv_activation

  Epilogue from(Int channel) const { return {bias ? bias + channel : nullptr, activation}; }
};

constexpr Epilogue kNoEpilogue = {nullptr, DRCONV_NO_ACTIVATION};

// Comparisons are written so that NaN stays NaN.
template <class V>
DRCONV_INLINE V clamp_below(V v) {
  return v < V{} ? V{} : v;
}

template <class V>
DRCONV_INLINE V clamp_to_six(V v) {
  const V six = V{} + 6.0f;
  const V above = clamp_below(v);
  return above > six ? six : above;
}

template <Int kActivation, class V>
DRCONV_INLINE V activated(V v) {
  if (kActivation == DRCONV_RELU) return clamp_below(v);
  if (kActivation == DRCONV_RELU6) return clamp_to_six(v);
  if (kActivation == DRCONV_HARDSWISH) return v * clamp_to_six(v + 3.0f) * (1.0f / 6.0f);
  return v;
}

// For single results: inside loops choose the activation outside, as `activate_tile` does.
template <class V>
DRCONV_INLINE V activated(V v, Int activation) {
  switch (activation) {
    case DRCONV_RELU: return activated<DRCONV_RELU>(v);
    case DRCONV_RELU6: return activated<DRCONV_RELU6>(v);
    case DRCONV_HARDSWISH: return activated<DRCONV_HARDSWISH>(v);
    default: return v;
  }
}

}  // namespace
