// Filters as matrices [depth, columns] per tap, read in place where the columns are adjacent, else packed.
#pragma once

#include "drconv_native.h"
#include "transpose.h"

namespace {

// Filters of one convolution, or of its transpose. Strides count elements.
template <class E>
struct FilterViewOf {
  const E* base;
  Int groups, columns, depth, taps;  // columns and depth are per group
  Int set_stride, region_stride, group_stride, column_stride, depth_stride, tap_stride;

  const E* at(Int set, Int region) const { return base + set * set_stride + region * region_stride; }

  // Tiles read floats, and whole vectors where masked reads are slow.
  bool is_direct() const {
    return sizeof(E) == sizeof(float) && column_stride == 1 && (kCheapTails || columns % kLanes == 0);
  }

  Int padded_columns() const { return round_up(columns, kLanes); }
  Int packed_width() const { return groups * padded_columns(); }
  Int packed_size() const { return taps * depth * packed_width(); }
};

// From input channels to output channels.
template <class E>
DRCONV_INLINE FilterViewOf<E> forward_view(const drconv_conv& c, const E* filters) {
  const Int out = c.out_channels / c.groups;
  return {filters,
          c.groups,
          out,
          c.in_channels / c.groups,
          c.kernel_h * c.kernel_w,
          c.filter_batch_stride,
          c.filter_region_stride,
          out * c.filter_out_stride,
          c.filter_out_stride,
          c.filter_in_stride,
          c.filter_tap_stride};
}

// From output channels back to input channels.
template <class E>
DRCONV_INLINE FilterViewOf<E> transposed_view(const drconv_conv& c, const E* filters) {
  FilterViewOf<E> view = forward_view(c, filters);
  const FilterViewOf<E> f = view;
  view.columns = f.depth;
  view.depth = f.columns;
  view.column_stride = f.depth_stride;
  view.depth_stride = f.column_stride;
  return view;
}

// One filter per channel: a row of all channels per tap, as if there were one group.
template <class E>
DRCONV_INLINE FilterViewOf<E> depthwise_view(const drconv_conv& c, const E* filters) {
  FilterViewOf<E> view = forward_view(c, filters);
  view.groups = 1;
  view.columns = c.out_channels;
  return view;
}

// A filter as the tiles want it: columns adjacent, groups side by side.
struct Matrix {
  const float* data;
  Int group_stride, depth_stride, tap_stride;
};

DRCONV_INLINE Matrix in_place(const FilterViewOf<float>& view, Int set, Int region) {
  return {view.at(set, region), view.group_stride, view.depth_stride, view.tap_stride};
}

DRCONV_INLINE Matrix in_place(const FilterViewOf<Bfloat16>&, Int, Int) { return {nullptr, 0, 0, 0}; }  // never is

template <class E>
DRCONV_INLINE Matrix as_packed(const FilterViewOf<E>& view, const float* packed) {
  return {packed, view.padded_columns(), view.taps * view.packed_width(), view.packed_width()};
}

// Writes element (k, t, n) of a group to to[(k * taps + t) * width + n], and zeros to the columns that fill the width.
template <class E>
inline void pack_group(const FilterViewOf<E>& view, const E* from, float* to) {
  const Int width = view.packed_width(), taps = view.taps;
  if (view.column_stride == 1) {
    for (Int k = 0; k < view.depth; k++)
      for (Int t = 0; t < taps; t++)
        copy_row(from + k * view.depth_stride + t * view.tap_stride, view.columns, to + (k * taps + t) * width);
  } else if ((taps == 1 || view.tap_stride == 1) && (view.depth == 1 || view.depth_stride == taps)) {
    transpose(from, view.column_stride, view.columns, view.depth * taps, to, width);
  } else if (taps > 1 && view.tap_stride == 1) {
    for (Int k = 0; k < view.depth; k++)
      transpose(from + k * view.depth_stride, view.column_stride, view.columns, taps, to + k * taps * width, width);
  } else if (view.depth_stride == 1) {
    for (Int t = 0; t < taps; t++)
      transpose(from + t * view.tap_stride, view.column_stride, view.columns, view.depth, to + t * width,
                taps * width);
  } else {
    for (Int k = 0; k < view.depth; k++)
      for (Int t = 0; t < taps; t++)
        for (Int n = 0; n < view.columns; n++)
          to[(k * taps + t) * width + n] =
              value(from[k * view.depth_stride + t * view.tap_stride + n * view.column_stride]);
  }
  const Int gap = view.padded_columns() - view.columns;
  if (gap > 0)
    for (Int row = 0; row < view.depth * taps; row++)
      memset(to + row * width + view.columns, 0, static_cast<size_t>(gap) * sizeof(float));
}

template <class E>
inline void pack(const FilterViewOf<E>& view, Int set, Int region, float* to) {
  for (Int g = 0; g < view.groups; g++)
    pack_group(view, view.at(set, region) + g * view.group_stride, to + g * view.padded_columns());
}

// Where the matrices of a pass come from: in place, packed once before it, or packed by each task as it goes.
template <class E>
struct Bank {
  enum Way { kInPlace, kBefore, kAsNeeded };

  FilterViewOf<E> view;
  Int sets, regions;
  Way way;
  float* before;  // all packed matrices

  Bank(const FilterViewOf<E>& view, const drconv_conv& c, bool used_once)
      : view(view), sets(c.shared ? 1 : c.batch), regions(c.regions),
        way(view.is_direct() ? kInPlace : (used_once && !c.shared ? kAsNeeded : kBefore)), before(nullptr) {}

  Int size_before() const { return way == kBefore ? sets * regions * view.packed_size() : 0; }
  Int size_as_needed() const { return way == kAsNeeded ? view.packed_size() : 0; }
  Int packings() const { return way == kBefore ? sets * regions : 0; }

  void pack_before(Int index) const {
    pack(view, index / regions, index % regions, before + index * view.packed_size());
  }

  Matrix matrix(Int sample, Int region, float* scratch) const {
    const Int set = sets == 1 ? 0 : sample;
    if (way == kInPlace) return in_place(view, set, region);
    if (way == kBefore) return as_packed(view, before + (set * regions + region) * view.packed_size());
    pack(view, set, region, scratch);
    return as_packed(view, scratch);
  }

  // The memory that `matrix` will read, of the size of the matrix; null after the last sample, or if narrower.
  const float* upcoming(Int sample, Int region) const {
    if (sample >= (sets == 1 ? sample + 1 : sets)) return nullptr;
    if (way == kAsNeeded) return floats_of(view.at(sample, region));
    return matrix(sample, region, nullptr).data;
  }

 private:
  static const float* floats_of(const float* data) { return data; }
  static const float* floats_of(const Bfloat16*) { return nullptr; }
};

}  // namespace
