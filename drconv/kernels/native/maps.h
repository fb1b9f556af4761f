// Feature maps, and bands of them as rows: one row of channels per pixel, zero padding included.
#pragma once

#include "drconv_native.h"
#include "transpose.h"

namespace {

struct Map {
  Int channels, height, width;
  bool channels_last;
  Int batch_stride, channel_stride, pixel_stride;

  // Where band(...) and the writers below find a sample.
  const float* at(const float* data, Int sample) const { return data + sample * batch_stride; }
};

DRCONV_INLINE Map dense_map(Int channels, Int height, Int width, bool channels_last) {
  return {channels, height,         width, channels_last, channels * height * width, height * width,
          channels};
}

DRCONV_INLINE Map input_map(const drconv_conv& c) {
  return {c.in_channels,        c.height,
          c.width,              c.channels_last != 0,
          c.input_batch_stride, c.input_channel_stride,
          c.input_pixel_stride};
}

DRCONV_INLINE Map output_map(const drconv_conv& c) {
  return dense_map(c.out_channels, c.out_height, c.out_width, c.channels_last != 0);
}

DRCONV_INLINE Map input_gradient_map(const drconv_conv& c) {
  return dense_map(c.in_channels, c.height, c.width, c.channels_last != 0);
}

DRCONV_INLINE void zero(float* p, Int count) {
  if (count > 0) memset(p, 0, static_cast<size_t>(count) * sizeof(float));
}

// How output positions read the input. A 1x1 convolution without stride or padding is one column of pixels, so that a
// band of rows of it may be any run of pixels.
struct Geometry {
  Int height, width;  // of the input
  Int out_height, out_width;
  Int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;

  explicit Geometry(const drconv_conv& c)
      : height(c.height), width(c.width), out_height(c.out_height), out_width(c.out_width), kernel_h(c.kernel_h),
        kernel_w(c.kernel_w), stride_h(c.stride_h), stride_w(c.stride_w), pad_h(c.pad_h), pad_w(c.pad_w),
        dilation_h(c.dilation_h), dilation_w(c.dilation_w) {
    if (is_pointwise(c)) {
      height = out_height = c.height * c.width;
      width = out_width = 1;
    }
  }

  static bool is_pointwise(const drconv_conv& c) {
    return c.kernel_h == 1 && c.kernel_w == 1 && c.stride_h == 1 && c.stride_w == 1 && c.pad_h == 0 && c.pad_w == 0;
  }

  Int taps() const { return kernel_h * kernel_w; }
  Int positions() const { return out_height * out_width; }
  Int padded_height() const { return height + 2 * pad_h; }
  Int padded_width() const { return width + 2 * pad_w; }
  // Rows of the padded input that a band of output rows reads.
  Int rows_read(Int out_rows) const { return (out_rows - 1) * stride_h + (kernel_h - 1) * dilation_h + 1; }

  // How far each tap is from the first, in elements.
  void tap_offsets(Int pixel_stride, Int* offset) const {
    for (Int y = 0; y < kernel_h; y++)
      for (Int x = 0; x < kernel_w; x++)
        offset[y * kernel_w + x] = (y * dilation_h * padded_width() + x * dilation_w) * pixel_stride;
  }

  // The pixel of the padded band that the first tap of each position of the band reads.
  void origins(Int out_rows, int32_t* origin) const {
    for (Int u = 0; u < out_rows; u++)
      for (Int v = 0; v < out_width; v++)
        origin[u * out_width + v] = static_cast<int32_t>(u * stride_h * padded_width() + v * stride_w);
  }

  // Whether the origin of a position is its own number.
  bool origin_is_position() const { return stride_h == 1 && stride_w == 1 && padded_width() == out_width; }
};

// Rows of pixels of a map, ready for the tiles.
struct Rows {
  const float* data;
  Int stride;
};

// Whether bands of the input can be read where they are.
DRCONV_INLINE bool reads_in_place(const Map& map, const Geometry& g) {
  return map.channels_last && g.pad_h == 0 && g.pad_w == 0;
}

// Elements of scratch that `load_rows` needs for a band.
DRCONV_INLINE Int rows_size(const Map& map, const Geometry& g, Int out_rows) {
  return reads_in_place(map, g) ? 0 : g.rows_read(out_rows) * g.padded_width() * map.channels;
}

// Lays the padded input that output rows [first, first + count) read out as rows, or finds it in place.
inline Rows load_rows(const Map& map, const Geometry& g, const float* sample, Int first, Int count, float* scratch) {
  const Int top = first * g.stride_h - g.pad_h, channels = map.channels;
  if (reads_in_place(map, g)) return {sample + top * g.width * map.pixel_stride, map.pixel_stride};
  Int read = g.rows_read(count);
  if (g.pad_h == 0 && g.pad_w == 0) {
    transpose(sample + top * g.width, map.channel_stride, channels, read * g.width, scratch, channels);
    return {scratch, channels};
  }
  const Int padded = g.padded_width(), side = g.pad_w * channels;
  for (Int i = 0; i < read; i++) {
    const Int y = top + i;
    float* row = scratch + i * padded * channels;
    if (y < 0 || y >= g.height) {
      zero(row, padded * channels);
      continue;
    }
    zero(row, side);
    float* inside = row + side;
    if (!map.channels_last) {
      transpose(sample + y * g.width, map.channel_stride, channels, g.width, inside, channels);
    } else if (map.pixel_stride == channels) {
      memcpy(inside, sample + y * g.width * channels, static_cast<size_t>(g.width * channels) * sizeof(float));
    } else {
      for (Int x = 0; x < g.width; x++)
        memcpy(inside + x * channels, sample + (y * g.width + x) * map.pixel_stride,
               static_cast<size_t>(channels) * sizeof(float));
    }
    zero(inside + g.width * channels, side);
  }
  return {scratch, channels};
}

// Rows of the positions [first, first + count) of a map that is read or written position by position.
inline Rows load_positions(const Map& map, const float* sample, Int first, Int count, float* scratch) {
  if (map.channels_last) return {sample + first * map.pixel_stride, map.pixel_stride};
  transpose(sample + first, map.channel_stride, map.channels, count, scratch, map.channels);
  return {scratch, map.channels};
}

}  // namespace
