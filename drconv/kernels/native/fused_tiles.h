// The fused call of a 1x1 layer: every filter is made in the cache, a few columns at a time, and consumed at once.
//
// A task is a block of output channels of one region; it walks the samples in which the region occurs, so that the
// generator's parameters stream through once. Every position has one region and every task its own columns: nothing is
// written twice.
#pragma once

#include "survey.h"

namespace {

struct FusedTiles {
  // Input channels that are mixed and multiplied in one go.
  static constexpr Int kWholeDepth = 256, kPartDepth = 128;

  // Positions of one region of one sample: all of them, or some where they are many.
  struct Pair {
    Int sample, region;
    Int begin, count;  // in the list of all samples
  };
  struct Task {
    Int list, block, first, last;  // of the pairs
  };

  const drconv_layer& layer;
  Scratch memory;
  Generator generator;
  Survey survey;
  Geometry geometry;
  Map in, out;
  Int threads, positions, depth;
  Int wanted;  // tasks that keep all threads busy
  bool strided;
  Epilogue epilogue;
  const float* input;
  float* output;
  Int chunk, tile_size;
  Pair* pairs;
  Task* tasks;
  Int task_count = 0;
  int32_t* read;
  float* results;
  char* thread_memory;
  Int thread_bytes;

  static bool suits(const drconv_layer& layer) {
    const drconv_conv& c = layer.conv;
    return layer.generator != DRCONV_LEARNED && c.groups == 1 && c.kernel_h * c.kernel_w == 1 && c.pad_h == 0 &&
           c.pad_w == 0;
  }

  FusedTiles(const drconv_layer& layer, const drconv_parameters* given, const float* input, const float* scores,
             float* output, void* scratch)
      : layer(layer), memory(scratch), generator(layer, given ? given->packed : nullptr),
        survey(layer, given, layer.conv.channels_last == 0, true, input, scores, memory), geometry(layer.conv),
        in(input_map(layer.conv)), out(layer_output_map(layer)), threads(layer.conv.threads),
        positions(survey.positions), depth(layer.conv.in_channels),
        strided(!Geometry::is_pointwise(layer.conv)), epilogue(kNoEpilogue), input(input), output(output) {
    if (given) epilogue = {given->bias, given->activation};
    wanted = threads == 1 ? 1 : 4 * threads;
    chunk = depth <= kWholeDepth ? depth : ceil_div(depth, ceil_div(depth, kPartDepth));
    // Tiles of several samples begin in different sets of the first cache.
    tile_size = round_up(chunk * kTileVectors * kLanes, 1024) + 144;
    pairs = memory.take<Pair>(survey.batch * survey.regions + wanted);
    tasks = memory.take<Task>(generator.blocks * (2 * generator.lists + wanted));
    read = memory.take<int32_t>(strided ? survey.batch * positions : 0);
    results = memory.take<float>(out.channels_last ? 0 : survey.batch * positions * out.channels);
    Scratch thread(nullptr);
    ThreadMemory(thread, *this);
    thread_bytes = thread.used();
    thread_memory = memory.take<char>(threads * thread_bytes);
  }

  struct ThreadMemory {
    float *tiles, *mix;

    ThreadMemory(Scratch& from, const FusedTiles& f) {
      tiles = from.take<float>(kMostSets * f.tile_size);
      mix = from.take<float>(f.layer.mixed * kMostSets);
    }
  };

  Int scratch_bytes() const { return memory.used(); }

  void run() {
    survey.run();
    if (strided) find_pixels();
    plan();
    drconv_run_tasks(threads, task_count, [](void* self, Int index, Int thread) {
      static_cast<const FusedTiles*>(self)->task(index, thread);
    }, this);
    if (!out.channels_last) {
      drconv_run_tasks(threads, survey.batch * column_parts(), [](void* self, Int index, Int) {
        static_cast<const FusedTiles*>(self)->write_planes(index);
      }, this);
    }
  }

  // The pixel that each listed position reads.
  void find_pixels() const {
    const Int width = layer.conv.out_width;
    for (Int i = 0; i < survey.batch * positions; i++) {
      const Int p = survey.list[i];
      read[i] = static_cast<int32_t>(p / width * layer.conv.stride_h * layer.conv.width +
                                     p % width * layer.conv.stride_w);
    }
  }

  // Lists become tasks of about the same price, counted in multiplications per column: making a filter is `mixed`,
  // using it one per position.
  void plan() {
    Int total = 0;
    for (Int n = 0; n < survey.batch; n++)
      for (Int j = 0; j < survey.regions; j++)
        if (survey.members(n, j) > 0) total += price(survey.members(n, j));
    // A filter that is made once more for part of its positions should have many of them.
    const Int target = wanted == 1 ? total : most(ceil_div(total, wanted), 8 * layer.mixed);
    Int used = 0;
    task_count = 0;
    if (generator.lists == 1) {
      // Regions of one sample after each other: its pixels stay in the cache.
      for (Int n = 0; n < survey.batch; n++)
        for (Int j = 0; j < survey.regions; j++) add_pairs(n, j, target, used);
      add_tasks(0, 0, used, total, target);
      return;
    }
    // The dearest regions first, so that the last task to end is a cheap one.
    constexpr Int kMostSorted = 64;
    Int order[kMostSorted], cost[kMostSorted];
    const bool sorted = survey.regions <= kMostSorted;
    for (Int j = 0; sorted && j < survey.regions; j++) {
      const Int own = list_price(j);
      Int at = j;
      for (; at > 0 && cost[at - 1] < own; at--) {
        cost[at] = cost[at - 1];
        order[at] = order[at - 1];
      }
      cost[at] = own;
      order[at] = j;
    }
    for (Int i = 0; i < survey.regions; i++) {
      const Int j = sorted ? order[i] : i, first = used;
      for (Int n = 0; n < survey.batch; n++) add_pairs(n, j, target, used);
      if (used > first) add_tasks(j, first, used, sorted ? cost[i] : list_price(j), target);
    }
  }

  Int price(Int members) const { return layer.mixed + members; }

  Int list_price(Int region) const {
    Int sum = 0;
    for (Int n = 0; n < survey.batch; n++)
      if (survey.members(n, region) > 0) sum += price(survey.members(n, region));
    return sum;
  }

  void add_pairs(Int sample, Int region, Int target, Int& used) const {
    const Int members = survey.members(sample, region);
    if (members == 0) return;
    const Int begin = sample * positions + survey.start[sample * (survey.regions + 1) + region];
    const Int pieces = most(1, members / target);
    for (Int i = 0; i < pieces; i++) {
      const Int from = members * i / pieces, to = members * (i + 1) / pieces;
      pairs[used++] = {sample, region, begin + from, to - from};
    }
  }

  void add_tasks(Int list, Int first, Int last, Int cost, Int target) {
    const Int count = last - first, split = most(1, least(count, (cost + target / 2) / target));
    for (Int b = 0; b < generator.blocks; b++)
      for (Int i = 0; i < split; i++)
        tasks[task_count++] = {list, b, first + count * i / split, first + count * (i + 1) / split};
  }

  // Fetches ahead, a few lines at a time.
  struct Upcoming {
    const float* at;
    Int lines;

    void move(Int count) {
      at += count * kLine;
      lines -= count;
    }
  };

  void task(Int index, Int thread) const {
    const Task& task = tasks[index];
    Scratch from(thread_memory + thread * thread_bytes);
    const ThreadMemory own(from, *this);
    const ColumnBlock block = generator.block(task.block);
    const Int width = block_width(block), most_sets = kTileRows[block.vectors];
    const Int count = task.last - task.first, groups = ceil_div(count, most_sets);
    Int pixels = 0;
    for (Int i = task.first; i < task.last; i++) {
      pixels += pairs[i].count;
    }
    for (Int c = 0; c < depth; c += chunk) {
      const Int here = least(chunk, depth - c);
      // The parameters of what comes next, in step with the arithmetic.
      Upcoming upcoming = {nullptr, 0};
      if (c + here < depth) {
        upcoming.at = generator.at(task.list, block, c + here);
        upcoming.lines = least(chunk, depth - c - here) * generator.row_sets * width / kLine;
      } else if (index + 1 < task_count) {
        const Task& later = tasks[index + 1];
        if (later.list != task.list || later.block != task.block) {
          const ColumnBlock its = generator.block(later.block);
          upcoming.at = generator.at(later.list, its, 0);
          upcoming.lines = least(chunk, depth) * generator.row_sets * block_width(its) / kLine;
        }
      }
      const Int making = layer.mixed * count;
      const Int lines_making = ceil_div(upcoming.lines * making / (making + pixels), here * groups);
      for (Int g = 0; g < groups; g++) {
        const Int first = task.first + count * g / groups, last = task.first + count * (g + 1) / groups;
        make_tiles(task, block, c, here, first, last - first, own, lines_making, upcoming);
        for (Int i = first; i < last; i++)
          multiply_pair(pairs[i], block, c, here, own.tiles + (i - first) * tile_size, upcoming);
      }
    }
  }

  void make_tiles(const Task& task, const ColumnBlock& block, Int c, Int here, Int first, Int sets,
                  const ThreadMemory& own, Int lines, Upcoming& upcoming) const {
    MakeCall call;
    call.from = generator.at(task.list, block, c);
    call.rows = here;
    call.mixed = layer.mixed;
    call.mix = own.mix;
    call.to_stride = block_width(block);
    for (Int s = 0; s < sets; s++) {
      call.to[s] = own.tiles + s * tile_size;
      const float* mix = survey.mix_of(pairs[first + s].sample, 0, pairs[first + s].region);
      for (Int k = 0; k < layer.mixed; k++) own.mix[k * kMostSets + s] = mix[k];
    }
    call.soon = upcoming.at;
    call.soon_lines = lines * here <= upcoming.lines ? lines : 0;
    make(block, sets, call);
    upcoming.move(call.soon_lines * here);
  }

  void multiply_pair(const Pair& pair, const ColumnBlock& block, Int c, Int here, const float* tile,
                     Upcoming& upcoming) const {
    static const Int no_offset = 0;
    const Int begin = pair.begin, members = pair.count;
    TileCall call = {};
    if (in.channels_last) {
      call.rows = in.at(input, pair.sample) + c;
      call.row_stride = in.pixel_stride;
    } else {
      call.rows = survey.rows + pair.sample * survey.pixels * depth + c;
      call.row_stride = depth;
    }
    call.tap_offset = &no_offset;
    call.taps = 1;
    call.depth = here;
    call.filter = tile;
    call.depth_stride = block_width(block);
    call.last = block.last;
    call.out = (out.channels_last ? output : results) + pair.sample * positions * out.channels + block.first;
    call.out_stride = out.channels;
    call.accumulate = c > 0;
    if (c + here == depth) call.epilogue = epilogue.from(block.first);
    const Int parts = ceil_div(members, kTileRows[block.vectors]);
    for (Int part = 0; part < parts; part++) {
      const Int from = members * part / parts, to = members * (part + 1) / parts;
      call.row_index = (strided ? read : survey.list) + begin + from;
      call.out_index = survey.list + begin + from;
      const Int lines = ceil_div(here * block.vectors * kLanes, kLine);
      const bool fetches = upcoming.lines >= lines;
      call.soon = fetches ? upcoming.at : tile;
      call.soon_step = fetches ? block.vectors * kLanes : 0;
      block.tiles[to - from](call);
      if (fetches) upcoming.move(lines);
    }
  }

  // Results become planes in parts of their channels, where there are few samples.
  Int column_parts() const {
    return survey.batch >= threads ? 1 : least(ceil_div(out.channels, kLanes), ceil_div(threads, survey.batch));
  }

  void write_planes(Int index) const {
    const Int sample = index / column_parts(), part = index % column_parts();
    const Int blocks = ceil_div(out.channels, kLanes);
    const Int from = blocks * part / column_parts() * kLanes;
    const Int to = least(out.channels, blocks * (part + 1) / column_parts() * kLanes);
    transpose(results + sample * positions * out.channels + from, out.channels, positions, to - from,
              output + sample * out.batch_stride + from * out.channel_stride, out.channel_stride);
  }
};

}  // namespace
