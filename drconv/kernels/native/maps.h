// Feature maps, and bands of them as rows: one row of channels per pixel, zero padding included.
#pragma once

#include "drconv_native.h"
#include "transpose.h"

namespace {

struct Map {
  Int channels, height, width;
  bool channels_last;
  Int batch_stride, channel_stride, pixel_stride;
  bool narrow;  // the elements are not float, so that rows of it are always copies

  // Where band(...) and the writers below find a sample.
  template <class E>
  const E* at(const E* data, Int sample) const {
    return data + sample * batch_stride;
  }

  // Whether rows of positions can be read or written where they are.
  bool in_place() const { return channels_last && !narrow; }
};

DRCONV_INLINE Map dense_map(Int channels, Int height, Int width, const drconv_conv& c) {
  return {channels,       height,   width,          c.channels_last != 0, channels * height * width,
          height * width, channels, c.bfloat16 != 0};
}

DRCONV_INLINE Map input_map(const drconv_conv& c) {
  return {c.in_channels,        c.height,
          c.width,              c.channels_last != 0,
          c.input_batch_stride, c.input_channel_stride,
          c.input_pixel_stride, c.bfloat16 != 0};
}

DRCONV_INLINE Map output_map(const drconv_conv& c) {
  return dense_map(c.out_channels, c.out_height, c.out_width, c);
}

DRCONV_INLINE Map input_gradient_map(const drconv_conv& c) {
  return dense_map(c.in_channels, c.height, c.width, c);
}

template <class E>
DRCONV_INLINE void zero(E* p, Int count) {
  if (count > 0) memset(p, 0, static_cast<size_t>(count) * sizeof(E));
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
  return map.in_place() && g.pad_h == 0 && g.pad_w == 0;
}

// Elements of scratch that `load_rows` needs for a band.
DRCONV_INLINE Int rows_size(const Map& map, const Geometry& g, Int out_rows) {
  return reads_in_place(map, g) ? 0 : g.rows_read(out_rows) * g.padded_width() * map.channels;
}

// What `load_rows` and `load_positions` return where rows are read in place: only floats are.
inline Rows rows_in_place(const float* data, Int stride) { return {data, stride}; }
inline Rows rows_in_place(const Bfloat16*, Int) { return {nullptr, 0}; }

// Lays `count` pixels of a map, side by side, out as rows.
template <class E>
inline void copy_pixels(const Map& map, const E* from, Int count, float* to) {
  if (!map.channels_last) {
    transpose(from, map.channel_stride, map.channels, count, to, map.channels);
  } else if (map.pixel_stride == map.channels) {
    copy_row(from, count * map.channels, to);
  } else {
    for (Int i = 0; i < count; i++) copy_row(from + i * map.pixel_stride, map.channels, to + i * map.channels);
  }
}

// Lays the padded input that output rows [first, first + count) read out as rows, or finds it in place.
template <class E>
inline Rows load_rows(const Map& map, const Geometry& g, const E* sample, Int first, Int count, float* scratch) {
  const Int top = first * g.stride_h - g.pad_h, channels = map.channels;
  const Int step = map.channels_last ? map.pixel_stride : 1;  // from pixel to pixel
  if (reads_in_place(map, g)) return rows_in_place(sample + top * g.width * step, step);
  Int read = g.rows_read(count);
  if (g.pad_h == 0 && g.pad_w == 0) {
    copy_pixels(map, sample + top * g.width * step, read * g.width, scratch);
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
    copy_pixels(map, sample + y * g.width * step, g.width, row + side);
    zero(row + side + g.width * channels, side);
  }
  return {scratch, channels};
}

// Elements of scratch that `load_positions` needs, or a band of results before it is written.
DRCONV_INLINE Int positions_size(const Map& map, Int positions) { return map.in_place() ? 0 : positions * map.channels; }

// Rows of the positions [first, first + count) of a map that is read or written position by position.
template <class E>
inline Rows load_positions(const Map& map, const E* sample, Int first, Int count, float* scratch) {
  const Int step = map.channels_last ? map.pixel_stride : 1;
  if (map.in_place()) return rows_in_place(sample + first * step, step);
  copy_pixels(map, sample + first * step, count, scratch);
  return {scratch, map.channels};
}

}  // namespace
