// The forward pass: bands of positions, sorted by region, each region's rows times its filter.
//
// Also the input's gradient of a 1x1 convolution, which is the same with filters and maps exchanged.
#pragma once

#include "buckets.h"
#include "depthwise.h"
#include "maps.h"
#include "scratch.h"
#include "threads.h"
#include "tiles.h"

namespace {

// Input and output of a band should stay in the second cache while its regions take turns. Planes are transposed to
// rows and back, which needs the room twice.
constexpr Int kBandBytes = 768 << 10;
constexpr Int kTransposedBandBytes = 384 << 10;

// Rows that are read in place, and those of their results, are fetched ahead if all maps together are larger than this:
// then what a caller has just allocated is in no second cache, and stores to scattered rows would wait for it.
constexpr Int kNearBytes = 1 << 20;

// Elements of a plane that several threads write vector by vector: a page. With larger ones every vector is on another.
constexpr Int kSharedPlane = 1 << 10;

// E is how the elements of input, filters and output lie in memory.
template <class E>
struct ForwardOf {
  Geometry geometry;
  Map in, out;
  Bank<E> bank;
  bool depthwise;
  Int batch, regions, groups, threads;
  Int band, bands;       // output rows of a band, bands of a sample
  // Tasks of a band, where there are too few bands: parts of the output channels, or of the sorted positions.
  Int column_parts, list_parts;
  const E* input;
  Regions where;
  Epilogue epilogue;
  E* output;
  Scratch scratch;       // after what all threads share
  Int thread_bytes;
  Int failed = 0;

  ForwardOf(const drconv_conv& c, bool transposed, const E* input, const E* filters, const Regions& where,
            const Epilogue& epilogue, E* output, void* memory)
      : geometry(c), in(transposed ? output_map(c) : input_map(c)),
        out(transposed ? input_gradient_map(c) : output_map(c)),
        bank(FilterViewOf<E>(), c, false), depthwise(is_depthwise(c)), batch(c.batch), regions(c.regions),
        groups(depthwise ? 1 : c.groups), threads(c.threads), input(input), where(where), epilogue(epilogue),
        output(output), scratch(memory) {
    choose_bands();
    const FilterViewOf<E> view = depthwise    ? depthwise_view(c, filters)
                            : transposed ? transposed_view(c, filters)
                                         : forward_view(c, filters);
    bank = Bank<E>(view, c, bands == 1 && column_parts == 1);
    bank.before = scratch.take<float>(bank.size_before());
    Scratch thread(nullptr);
    ThreadMemory(thread, *this);
    thread_bytes = thread.used();
  }

  static bool is_depthwise(const drconv_conv& c) {
    return c.groups > 1 && c.groups == c.in_channels && c.groups == c.out_channels;
  }

  void choose_bands() {
    const Int rows = geometry.out_height;
    const bool flat = geometry.out_width == 1 && geometry.taps() == 1;
    const Int row_size = geometry.padded_width() * in.channels * geometry.stride_h + geometry.out_width * out.channels;
    const Int budget = flat && !in.in_place() ? kTransposedBandBytes : kBandBytes;
    // 16 rows of a flat map are 16 pixels: whole vectors in the sort and in the transposes.
    const Int unit = flat ? 16 : 1;
    Int most_rows = most(budget / 4 / row_size / unit * unit, flat ? 64 : 1);
    Int want = ceil_div(rows, most_rows);
    column_parts = list_parts = 1;
    if (threads > 1 && batch * want < 2 * threads) {
      if (!flat || geometry.positions() >= 256)
        want = most(want, ceil_div(threads * (batch * want == 1 ? 1 : 2), batch));
      else if (batch * want < threads && !depthwise)
        divide_band(threads / (batch * want));
    }
    want = least(want, rows);
    band = least(rows, round_up(ceil_div(rows, want), unit));
    bands = ceil_div(rows, band);
  }

  // A small map: its rows are short of work for several bands, and every band would have a rest of every region.
  void divide_band(Int parts) {
    // Planes need all positions at once. With few positions a thread's time goes into fetching filters: each its own.
    const bool many = geometry.positions() >= 2 * kTileRows[kTileVectors] * regions;
    if (out.in_place() && many)
      list_parts = parts;
    else if (groups == 1)
      column_parts = least(parts, ceil_div(out.channels, column_unit()));
  }

  // Channels of a part: no two threads may write to one line of memory.
  Int column_unit() const { return out.channels_last || kHalfLanes == 0 ? kLanes : kHalfLanes; }

  // What one thread works in.
  struct ThreadMemory {
    int32_t *region, *list, *origin, *read;
    Int *start, *next, *offset;
    float *rows, *results, *filter;

    ThreadMemory(Scratch& from, const ForwardOf& f) {
      const Int positions = f.band * f.geometry.out_width;
      const bool moved = !f.geometry.origin_is_position();
      region = from.take<int32_t>(positions);
      list = from.take<int32_t>(positions);
      origin = from.take<int32_t>(moved ? positions : 0);
      read = from.take<int32_t>(moved ? positions : 0);
      start = from.take<Int>(f.regions + 1);
      next = from.take<Int>(f.regions);
      offset = from.take<Int>(f.geometry.taps());
      rows = from.take<float>(rows_size(f.in, f.geometry, f.band));
      results = from.take<float>(positions_size(f.out, positions));
      filter = from.take<float>(f.bank.size_as_needed());
    }
  };

  Int scratch_bytes() const { return scratch.used() + least(threads, tasks()) * thread_bytes; }

  Int tasks() const { return batch * bands * column_parts * list_parts; }

  void run() {
    drconv_run_tasks(threads, bank.packings(), [](void* self, Int index, Int) {
      static_cast<ForwardOf*>(self)->bank.pack_before(index);
    }, this);
    drconv_run_tasks(threads, tasks(), [](void* self, Int index, Int thread) {
      static_cast<ForwardOf*>(self)->task(index, thread);
    }, this);
  }

  void task(Int index, Int thread) {
    // A thread's tasks follow each other, and so do the bands of a part: planes are left to one thread as a whole.
    const Int list_part = index % list_parts, here = index / list_parts % bands;
    const Int part = index / list_parts / bands % column_parts, sample = index / list_parts / bands / column_parts;
    const Int first = here * band, count = least(band, geometry.out_height - first);
    const Int position = first * geometry.out_width, positions = count * geometry.out_width;
    Scratch own = scratch.part(thread, thread_bytes);
    ThreadMemory memory(own, *this);
    const int32_t* region = where.of(sample, geometry.positions(), position, positions, regions, memory.region);
    if (!bucket(region, positions, regions, memory.list, memory.start, memory.next)) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return;
    }
    const int32_t* read = memory.list;
    if (!geometry.origin_is_position()) {
      geometry.origins(count, memory.origin);
      for (Int i = 0; i < positions; i++) memory.read[i] = memory.origin[memory.list[i]];
      read = memory.read;
    }
    const Rows rows = load_rows(in, geometry, in.at(input, sample), first, count, memory.rows);
    geometry.tap_offsets(rows.stride, memory.offset);
    const Int channels = out.channels;
    float* out_rows = out.in_place() ? rows_of(output + sample * out.batch_stride + position * channels) : memory.results;
    const Int from = positions * list_part / list_parts, to = positions * (list_part + 1) / list_parts;
    for (Int j = 0; j < regions; j++) {
      const Int begin = most(memory.start[j], from), members = least(memory.start[j + 1], to) - begin;
      if (members <= 0) continue;
      const Matrix filter = bank.matrix(sample, j, memory.filter);
      if (depthwise) {
        depthwise_rows({rows.data, rows.stride, read + begin, memory.offset, geometry.taps(), channels, filter.data,
                        filter.tap_stride, out_rows, channels, memory.list + begin, epilogue},
                       members);
        continue;
      }
      const float* upcoming = column_parts == 1 && groups == 1 ? next_filter(memory, sample, j, here) : nullptr;
      dense(rows, read + begin, memory, begin, members, filter, part, out_rows, upcoming);
    }
    if (!out.in_place()) {
      const Int low = column_first(part), high = column_first(part + 1);
      E* to = output + sample * out.batch_stride;
      if (out.channels_last)
        store_pixels(out_rows + low, positions, high - low, to + position * channels + low);
      else
        store_planes(out_rows + low, positions, high - low, to + low * out.channel_stride + position);
    }
  }

  static float* rows_of(float* output) { return output; }
  static float* rows_of(Bfloat16*) { return nullptr; }  // never in place

  void store_pixels(const float* rows, Int positions, Int count, E* to) const {
    if (count == out.channels) return copy_row(rows, positions * count, to);
    for (Int i = 0; i < positions; i++) copy_row(rows + i * out.channels, count, to + i * out.channels);
  }

  // Where threads share a sample's planes, what the processor fetches ahead of a run of stores belongs to another thread:
  // one vector in every plane, then the next.
  void store_planes(const float* rows, Int positions, Int planes, E* to) const {
    const Int step = threads > batch && out.channel_stride <= kSharedPlane ? kLanes : positions;
    for (Int i = 0; i < positions; i += step)
      transpose(rows + i * out.channels, out.channels, least(step, positions - i), planes, to + i, out.channel_stride);
  }

  Int column_first(Int part) const {
    const Int unit = column_unit();
    return least(out.channels, ceil_div(out.channels, unit) * part / column_parts * unit);
  }

  const float* next_filter(const ThreadMemory& memory, Int sample, Int region, Int here) const {
    for (Int j = region + 1; j < regions; j++)
      if (memory.start[j + 1] > memory.start[j]) return bank.upcoming(sample, j);
    return here == bands - 1 && sample + 1 < batch ? bank.upcoming(sample + 1, 0) : nullptr;
  }

  void dense(const Rows& rows, const int32_t* read, const ThreadMemory& memory, Int begin, Int members,
             const Matrix& filter, Int part, float* out_rows, const float* upcoming) const {
    TileCall call = {};
    call.row_stride = rows.stride;
    call.row_index = read;
    call.tap_offset = memory.offset;
    call.taps = geometry.taps();
    call.depth = bank.view.depth;
    call.tap_stride = filter.tap_stride;
    call.depth_stride = filter.depth_stride;
    call.out_stride = out.channels;
    call.out_index = memory.list + begin;
    const Int bytes = batch * geometry.positions() * (in.channels + out.channels) * 4;
    call.far = reads_in_place(in, geometry) && bytes > kNearBytes;
    const Int columns = bank.view.columns;
    for (Int g = 0; g < groups; g++) {
      const Int from = column_parts == 1 ? 0 : column_first(part);
      const Int to = column_parts == 1 ? columns : column_first(part + 1);
      call.rows = rows.data + g * call.depth;
      call.filter = filter.data + g * filter.group_stride + from;
      call.out = out_rows + g * columns + from;
      call.epilogue = epilogue.from(g * columns + from);
      multiply_rows(kStoreTiles, call, members, to - from, upcoming);
    }
  }
};

typedef ForwardOf<float> Forward;

}  // namespace
