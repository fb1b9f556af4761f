// Depthwise convolution of listed positions: one value per channel and tap, so nothing is shared but the filter.
#pragma once

#include "epilogue.h"
#include "filters.h"

namespace {

// Rows, taps and results of listed positions, all channels.
struct DepthwiseCall {
  const float* rows;
  Int row_stride;
  const int32_t* row_index;
  const Int* tap_offset;
  Int taps, channels;
  const float* filter;  // [taps, tap_stride]
  Int tap_stride;
  float* out;
  Int out_stride;
  const int32_t* out_index;
  Epilogue epilogue;
};

template <bool kMasked>
DRCONV_INLINE Vec load_lanes(const float* p, Tail tail) {
  return kMasked ? load(p, tail) : load(p);
}

template <bool kMasked>
DRCONV_INLINE void store_lanes(float* p, Vec v, Tail tail) {
  if (kMasked)
    store(p, v, tail);
  else
    store(p, v);
}

// The 3x3 filter stays in registers while the list passes.
template <bool kMasked>
void depthwise_nine(const DepthwiseCall& call, Int count, Int channel) {
  const Tail tail(call.channels - channel);
  Vec filter[9];
  Int offset[9];
  DRCONV_UNROLL for (int t = 0; t < 9; t++) {
    filter[t] = load_lanes<kMasked>(call.filter + t * call.tap_stride + channel, tail);
    offset[t] = call.tap_offset[t];
  }
  const float* rows = call.rows + channel;
  float* out = call.out + channel;
  const Vec bias = call.epilogue.bias ? load_lanes<kMasked>(call.epilogue.bias + channel, tail) : Vec{};
  for (Int i = 0; i < count; i++) {
    const float* row = rows + static_cast<Int>(call.row_index[i]) * call.row_stride;
    // Three chains hide the latency of the multiply-add.
    Vec a = bias, b = {}, c = {};
    DRCONV_UNROLL for (int t = 0; t < 3; t++) {
      a += filter[t] * load_lanes<kMasked>(row + offset[t], tail);
      b += filter[3 + t] * load_lanes<kMasked>(row + offset[3 + t], tail);
      c += filter[6 + t] * load_lanes<kMasked>(row + offset[6 + t], tail);
    }
    store_lanes<kMasked>(out + static_cast<Int>(call.out_index[i]) * call.out_stride,
                         activated(a + b + c, call.epilogue.activation), tail);
  }
}

template <bool kMasked, int kRows>
void depthwise_some(const DepthwiseCall& call, Int first, Int channel) {
  const Tail tail(call.channels - channel);
  const float* row[kRows];
  Vec sum[kRows];
  const Vec bias = call.epilogue.bias ? load_lanes<kMasked>(call.epilogue.bias + channel, tail) : Vec{};
  DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
    row[i] = call.rows + static_cast<Int>(call.row_index[first + i]) * call.row_stride + channel;
    sum[i] = bias;
  }
  for (Int t = 0; t < call.taps; t++) {
    const Vec filter = load_lanes<kMasked>(call.filter + t * call.tap_stride + channel, tail);
    const Int offset = call.tap_offset[t];
    DRCONV_UNROLL for (int i = 0; i < kRows; i++) sum[i] += filter * load_lanes<kMasked>(row[i] + offset, tail);
  }
  DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
    store_lanes<kMasked>(call.out + static_cast<Int>(call.out_index[first + i]) * call.out_stride + channel,
                         activated(sum[i], call.epilogue.activation), tail);
  }
}

template <bool kMasked>
void depthwise_channels(const DepthwiseCall& call, Int count, Int channel) {
  if (call.taps == 9) {
    depthwise_nine<kMasked>(call, count, channel);
    return;
  }
  Int i = 0;
  for (; i + 4 <= count; i += 4) depthwise_some<kMasked, 4>(call, i, channel);
  for (; i < count; i++) depthwise_some<kMasked, 1>(call, i, channel);
}

inline void depthwise_rows(const DepthwiseCall& call, Int count) {
  Int channel = 0;
  for (; channel + kLanes <= call.channels; channel += kLanes) depthwise_channels<false>(call, count, channel);
  if (channel < call.channels) depthwise_channels<true>(call, count, channel);
}

}  // namespace
