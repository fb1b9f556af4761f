// How much of each filter is mixed into the filter of a region: average pool, fully connected layer, sigmoid.
#pragma once

#include "maps.h"

namespace {

// sum[c] of `count` rows of channels; added to what is there, if so asked.
inline void add_rows(const float* rows, Int stride, Int count, Int channels, bool accumulate, float* sum) {
  Int c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes) {
    Vec total[4];
    DRCONV_UNROLL for (int v = 0; v < 4; v++) total[v] = accumulate ? load(sum + c + v * kLanes) : Vec{};
    const float* row = rows + c;
    for (Int i = 0; i < count; i++, row += stride) {
      DRCONV_UNROLL for (int v = 0; v < 4; v++) total[v] += load(row + v * kLanes);
    }
    DRCONV_UNROLL for (int v = 0; v < 4; v++) store(sum + c + v * kLanes, total[v]);
  }
  for (; c < channels; c += kLanes) {
    const Tail tail(channels - c);
    // Two chains hide the latency of the addition.
    Vec even = accumulate ? load(sum + c, tail) : Vec{}, odd = {};
    const float* row = rows + c;
    Int i = 0;
    for (; i + 2 <= count; i += 2, row += 2 * stride) {
      even += load(row, tail);
      odd += load(row + stride, tail);
    }
    if (i < count) even += load(row, tail);
    store(sum + c, even + odd, tail);
  }
}

inline float sum_of(const float* p, Int count) {
  Vec total[4] = {};
  Int i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    DRCONV_UNROLL for (int v = 0; v < 4; v++) total[v] += load(p + i + v * kLanes);
  }
  for (; i < count; i += kLanes) total[0] += load(p + i, Tail(count - i));
  return sum(total[0] + total[1] + (total[2] + total[3]));
}

// sum[c] of `count` pixels of channel planes.
inline void add_planes(const float* planes, Int channel_stride, Int count, Int channels, float* sum) {
  for (Int c = 0; c < channels; c++) sum[c] = sum_of(planes + c * channel_stride, count);
}

// Means over bins, [bins_h * bins_w, channels], with the bins of torch.nn.AdaptiveAvgPool2d.
inline void pool_bins(const Map& map, const float* sample, Int bins_h, Int bins_w, float* means) {
  for (Int y = 0; y < bins_h; y++)
    for (Int x = 0; x < bins_w; x++) {
      const Int top = y * map.height / bins_h, bottom = ceil_div((y + 1) * map.height, bins_h);
      const Int left = x * map.width / bins_w, right = ceil_div((x + 1) * map.width, bins_w);
      float* mean = means + (y * bins_w + x) * map.channels;
      for (Int row = top; row < bottom; row++) {
        const Int first = row * map.width + left;
        if (map.channels_last) {
          add_rows(sample + first * map.pixel_stride, map.pixel_stride, right - left, map.channels, row > top, mean);
        } else {
          for (Int c = 0; c < map.channels; c++) {
            const float part = sum_of(sample + c * map.channel_stride + first, right - left);
            mean[c] = row > top ? mean[c] + part : part;
          }
        }
      }
      const float share = 1.0f / static_cast<float>((bottom - top) * (right - left));
      for (Int c = 0; c < map.channels; c++) mean[c] *= share;
    }
}

// e^x to float32 rounding where it is a normal number; NaN stays NaN.
DRCONV_INLINE Vec exponential(Vec x) {
  const Vec most = splat(88.0f), least = splat(-87.0f);
  x = x > most ? most : x;
  x = x < least ? least : x;
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits.
  const Vec shift = splat(12582912.0f);
  const Vec shifted = x * 1.44269504f + shift;
  const Vec n = shifted - shift;
  Vec r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const IntVec exponent = (IntVec(shifted) - IntVec(shift) + 127) << 23;
  return p * Vec(exponent);
}

// out[i] = scale * sigmoid(<weight row i, x> + bias[i]) for `count` rows.
inline void route(const float* x, Int channels, const float* weight, const float* bias, Int count, float scale,
                  float* out) {
  constexpr int kRows = 4;
  for (Int i = 0; i < count; i += kRows) {
    const float* row[kRows];
    Vec total[kRows] = {};
    DRCONV_UNROLL for (int q = 0; q < kRows; q++) row[q] = weight + least(i + q, count - 1) * channels;
    Int c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      const Vec here = load(x + c);
      DRCONV_UNROLL for (int q = 0; q < kRows; q++) total[q] += here * load(row[q] + c);
    }
    if (c < channels) {
      const Tail tail(channels - c);
      const Vec here = load(x + c, tail);
      DRCONV_UNROLL for (int q = 0; q < kRows; q++) total[q] += here * load(row[q] + c, tail);
    }
    DRCONV_UNROLL for (int q = 0; q < kRows; q++) {
      if (i + q < count) out[i + q] = sum(total[q]);
    }
  }
  for (Int i = 0; i < count; i += kLanes) {
    const Tail tail(count - i);
    Vec score = load(out + i, tail);
    if (bias) score += load(bias + i, tail);
    store(out + i, scale / (exponential(-score) + 1.0f), tail);
  }
}

}  // namespace
