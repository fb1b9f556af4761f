// Depthwise convolution of channel planes: lanes are neighbouring pixels, and each looks its filter value up by its
// region in a register. No sort, no transpose, and no dependence on the mask.
#pragma once

#include "buckets.h"
#include "epilogue.h"
#include "filters.h"
#include "maps.h"
#include "scratch.h"
#include "threads.h"

namespace {

// Regions whose values fit one register.
#if defined(__AVX512F__)
constexpr Int kLookupRegions = 16;
DRCONV_INLINE Vec look_up(Vec table, IntVec index) {
  return Vec(_mm512_permutexvar_ps(__m512i(index), __m512(table)));
}
#elif defined(__AVX2__)
constexpr Int kLookupRegions = 8;
DRCONV_INLINE Vec look_up(Vec table, IntVec index) {
  return Vec(_mm256_permutevar8x32_ps(__m256(table), __m256i(index)));
}
#else
constexpr Int kLookupRegions = 0;
DRCONV_INLINE Vec look_up(Vec table, IntVec) { return table; }
#endif

template <class E>
struct LookupOf {
  Geometry geometry;
  Map in, out;
  FilterViewOf<E> view;
  Int batch, regions, threads;
  bool shared;
  Int part_channels, parts;  // channels of a task, tasks of a sample
  Int row_length;            // of a padded plane, room for whole vectors included
  const E* input;
  Regions where;
  Epilogue epilogue;
  E* output;
  Scratch scratch;
  Int thread_bytes;
  Int failed = 0;

  static bool suits(const drconv_conv& c) {
    return !c.channels_last && c.groups > 1 && c.groups == c.in_channels && c.groups == c.out_channels &&
           c.stride_w == 1 && c.regions <= kLookupRegions && !Geometry::is_pointwise(c);
  }

  LookupOf(const drconv_conv& c, const E* input, const E* filters, const Regions& where, const Epilogue& epilogue,
           E* output, void* memory)
      : geometry(c), in(input_map(c)), out(output_map(c)), view(depthwise_view(c, filters)), batch(c.batch),
        regions(c.regions), threads(c.threads), shared(c.shared != 0), input(input), where(where), epilogue(epilogue),
        output(output), scratch(memory) {
    const Int want = batch >= 2 * threads ? 1 : threads == 1 ? 1 : ceil_div(2 * threads, batch);
    part_channels = ceil_div(in.channels, want);
    parts = ceil_div(in.channels, part_channels);
    row_length = most(geometry.padded_width(),
                      round_up(geometry.out_width, kLanes) + (geometry.kernel_w - 1) * geometry.dilation_w);
    Scratch thread(nullptr);
    ThreadMemory(thread, *this);
    thread_bytes = thread.used();
  }

  struct ThreadMemory {
    int32_t* region;
    float *plane, *tables;
    Int* offset;

    ThreadMemory(Scratch& from, const LookupOf& f) {
      region = from.take<int32_t>(f.geometry.positions());
      plane = from.take<float>(f.geometry.padded_height() * f.row_length);
      tables = from.take<float>(f.geometry.taps() * kLanes);
      offset = from.take<Int>(f.geometry.taps());
    }
  };

  Int scratch_bytes() const { return scratch.used() + least(threads, batch * parts) * thread_bytes; }

  void run() {
    drconv_run_tasks(threads, batch * parts, [](void* self, Int index, Int thread) {
      static_cast<LookupOf*>(self)->task(index, thread);
    }, this);
  }

  void task(Int index, Int thread) {
    const Int sample = index / parts, first = index % parts * part_channels;
    Scratch own = scratch.part(thread, thread_bytes);
    ThreadMemory memory(own, *this);
    const Int positions = geometry.positions();
    const int32_t* region = where.of(sample, positions, 0, positions, regions, memory.region);
    bool valid = true;
    for (Int p = 0; p < positions; p++)
      valid &= static_cast<uint32_t>(region[p]) < static_cast<uint32_t>(regions);
    if (!valid) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return;
    }
    // The border stays zero, the inside is written anew for every channel.
    zero(memory.plane, geometry.padded_height() * row_length);
    zero(memory.tables, geometry.taps() * kLanes);
    for (Int y = 0; y < geometry.kernel_h; y++)
      for (Int x = 0; x < geometry.kernel_w; x++)
        memory.offset[y * geometry.kernel_w + x] = y * geometry.dilation_h * row_length + x * geometry.dilation_w;
    for (Int c = first; c < least(first + part_channels, in.channels); c++) {
      const E* plane = in.at(input, sample) + c * in.channel_stride;
      for (Int y = 0; y < geometry.height; y++)
        copy_row(plane + y * geometry.width, geometry.width,
                 memory.plane + (y + geometry.pad_h) * row_length + geometry.pad_w);
      for (Int j = 0; j < regions; j++) {
        const E* filter = view.at(shared ? 0 : sample, j) + c * view.column_stride;
        for (Int t = 0; t < geometry.taps(); t++) memory.tables[t * kLanes + j] = value(filter[t * view.tap_stride]);
      }
      E* to = output + sample * out.batch_stride + c * out.channel_stride;
      if (geometry.taps() == 9)
        channel<9>(memory, region, epilogue.from(c), to);
      else
        channel<0>(memory, region, epilogue.from(c), to);
    }
  }

  // Two rows of a 3x3 convolution without stride or dilation down share what they read.
  void two_rows(const Vec (&table)[9], const Int (&offset)[9], const float* row, const int32_t* region,
                const Epilogue& end, E* to) const {
    const Vec bias = splat(end.bias ? *end.bias : 0);
    const Int width = geometry.out_width;
    for (Int v = 0; v < width; v += kLanes) {
      const Tail tail(width - v);
      const IntVec upper = load(region + v, tail), lower = load(region + width + v, tail);
      Vec a[2] = {bias, Vec{}}, b[2] = {bias, Vec{}};
      DRCONV_UNROLL for (int y = 0; y < 4; y++) {
        DRCONV_UNROLL for (int x = 0; x < 3; x++) {
          const Vec pixel = load(row + v + y * row_length + offset[x]);
          if (y < 3) a[y & 1] += look_up(table[(y < 3 ? y : 0) * 3 + x], upper) * pixel;
          if (y > 0) b[y & 1] += look_up(table[(y > 0 ? y - 1 : 0) * 3 + x], lower) * pixel;
        }
      }
      store(to + v, activated(a[0] + a[1], end.activation), tail);
      store(to + width + v, activated(b[0] + b[1], end.activation), tail);
    }
  }

  // With a known number of taps the tables stay in registers.
  template <int kTaps>
  void channel(const ThreadMemory& memory, const int32_t* region, const Epilogue& end, E* to) const {
    const Vec bias = splat(end.bias ? *end.bias : 0);
    const Int taps = kTaps ? kTaps : geometry.taps();
    Vec table[kTaps ? kTaps : 1];
    Int offset[kTaps ? kTaps : 1];
    DRCONV_UNROLL for (int t = 0; t < kTaps; t++) {
      table[t] = load(memory.tables + t * kLanes);
      offset[t] = memory.offset[t];
    }
    Int u = 0;
    if constexpr (kTaps == 9) {
      if (geometry.kernel_h == 3 && geometry.stride_h == 1 && geometry.dilation_h == 1)
        for (; u + 2 <= geometry.out_height; u += 2)
          two_rows(table, offset, memory.plane + u * row_length, region + u * geometry.out_width, end,
                   to + u * geometry.out_width);
    }
    for (; u < geometry.out_height; u++) {
      const float* row = memory.plane + u * geometry.stride_h * row_length;
      for (Int v = 0; v < geometry.out_width; v += kLanes) {
        const Tail tail(geometry.out_width - v);
        const IntVec where = load(region + u * geometry.out_width + v, tail);
        Vec a = bias, b = {}, c = {};
        if (kTaps == 9) {
          DRCONV_UNROLL for (int t = 0; t < (kTaps ? 3 : 0); t++) {
            a += look_up(table[t], where) * load(row + v + offset[t]);
            b += look_up(table[3 + t], where) * load(row + v + offset[3 + t]);
            c += look_up(table[6 + t], where) * load(row + v + offset[6 + t]);
          }
        } else {
          for (Int t = 0; t < taps; t++)
            a += look_up(load(memory.tables + t * kLanes), where) * load(row + v + memory.offset[t]);
        }
        store(to + u * geometry.out_width + v, activated(a + b + c, end.activation), tail);
      }
    }
  }
};

typedef LookupOf<float> Lookup;

}  // namespace
