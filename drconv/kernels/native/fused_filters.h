// The fused call of any layer: filters of the regions that occur are written to memory, for as many samples at a time
// as the third cache may hold, and an ordinary forward pass reads them.
#pragma once

#include "lookup.h"
#include "survey.h"

namespace {

constexpr Int kFilterBytes = 4 << 20;

// The forward pass, by whichever way suits.
inline Int forward_pass(const drconv_conv& c, const float* input, const float* filters, const Regions& where,
                        const Epilogue& epilogue, float* output, void* scratch, bool only_measure) {
  if (Lookup::suits(c)) {
    Lookup pass(c, input, filters, where, epilogue, output, scratch);
    if (!only_measure) pass.run();
    return pass.scratch_bytes();
  }
  Forward pass(c, false, input, filters, where, epilogue, output, scratch);
  if (!only_measure) pass.run();
  return pass.scratch_bytes();
}

struct FusedFilters {
  const drconv_layer& layer;
  Scratch memory;
  Generator generator;
  bool turns;  // planes of the input are laid out as rows first, because the output is rows
  Survey survey;
  Map in, out;
  Int threads, regions;
  Epilogue epilogue;
  const float* input;
  float* output;
  bool learned;
  Int together;   // samples whose filters are in memory at a time
  Int row_parts;  // of the rows of the packed parameters, where there are too few lists and blocks
  float* filters;
  Int* pairs;     // sample * regions + region of every filter to make, list by list
  Int* list_first;
  char* pass_memory;
  char* thread_memory;
  Int thread_bytes;
  Int first = 0, count = 0;  // samples at hand

  FusedFilters(const drconv_layer& layer, const drconv_parameters* given, const float* input, const float* scores,
               float* output, void* scratch)
      : layer(layer), memory(scratch), generator(layer, given ? given->packed : nullptr),
        turns(layer.output_channels_last && !layer.conv.channels_last),
        survey(layer, given, turns, false, input, scores, memory), in(input_map(layer.conv)),
        out(layer_output_map(layer)), threads(layer.conv.threads), regions(layer.conv.regions), epilogue(kNoEpilogue),
        input(input), output(output), learned(layer.generator == DRCONV_LEARNED) {
    if (given) epilogue = {given->bias, given->activation};
    const Int sample_size = regions * generator.filter_size();
    together = learned ? survey.batch : least(survey.batch, most(threads, kFilterBytes / 4 / sample_size));
    row_parts = least(generator.rows, ceil_div(4 * threads, generator.lists * generator.blocks));
    filters = memory.take<float>(learned ? 0 : together * sample_size);
    pairs = memory.take<Int>(together * regions);
    list_first = memory.take<Int>(generator.lists + 1);
    Int bytes = 0;
    const Int sizes[2] = {together, survey.batch % together};
    for (Int i = 0; i < 2; i++)
      if (sizes[i] > 0)
        bytes = most(bytes, forward_pass(conv_of(sizes[i]), nullptr, nullptr, {}, kNoEpilogue, nullptr, nullptr, true));
    pass_memory = memory.take<char>(bytes);
    Scratch thread(nullptr);
    thread.take<float>(layer.mixed * kMostSets);
    thread_bytes = thread.used();
    thread_memory = memory.take<char>(threads * thread_bytes);
  }

  Int scratch_bytes() const { return memory.used(); }

  drconv_conv conv_of(Int samples) const {
    drconv_conv c = layer.conv;
    c.batch = samples;
    generator.set_strides(c);
    if (turns) {
      c.channels_last = c.input_channel_stride = 1;
      c.input_pixel_stride = c.in_channels;
      c.input_batch_stride = survey.pixels * c.in_channels;
    }
    return c;
  }

  void run() {
    survey.run();
    for (first = 0; first < survey.batch; first += together) {
      count = least(together, survey.batch - first);
      if (!learned) make_all();
      forward_pass(conv_of(count), turns ? survey.rows + first * survey.pixels * in.channels : in.at(input, first), learned ? generator.packed : filters,
                   {survey.mask + first * survey.positions, {}}, epilogue, output + first * out.batch_stride, pass_memory,
                   false);
    }
  }

  void make_all() {
    Int used = 0;
    for (Int list = 0; list < generator.lists; list++) {
      list_first[list] = used;
      for (Int n = 0; n < count; n++)
        for (Int j = 0; j < regions; j++)
          if ((generator.lists == 1 || j == list) && survey.present[(first + n) * regions + j])
            pairs[used++] = n * regions + j;
    }
    list_first[generator.lists] = used;
    drconv_run_tasks(threads, generator.lists * generator.blocks * row_parts, [](void* self, Int index, Int thread) {
      static_cast<const FusedFilters*>(self)->make_some(index, thread);
    }, this);
  }

  // One block of columns and some rows of all filters of a list. A pooled generator has coefficients of its own for
  // every tap, as if the taps were filters.
  void make_some(Int index, Int thread) const {
    const Int part = index % row_parts, list = index / row_parts / generator.blocks;
    const ColumnBlock block = generator.block(index / row_parts % generator.blocks);
    const Int from = generator.rows * part / row_parts, to = generator.rows * (part + 1) / row_parts;
    const Int bins = survey.bins, sets = (list_first[list + 1] - list_first[list]) * bins;
    float* mixes = reinterpret_cast<float*>(thread_memory + thread * thread_bytes);
    const Int groups = ceil_div(sets, kTileRows[block.vectors]);
    MakeCall call = {};
    call.from = generator.at(list, block, from);
    call.rows = to - from;
    call.mixed = layer.mixed;
    call.mix = mixes;
    call.to_stride = generator.filter_columns();
    for (Int g = 0; g < groups; g++) {
      const Int begin = sets * g / groups, end = sets * (g + 1) / groups;
      for (Int s = begin; s < end; s++) {
        const Int pair = pairs[list_first[list] + s / bins], bin = s % bins;
        call.to[s - begin] = filters + pair * generator.filter_size() +
                             (bin * generator.depth + from) * generator.filter_columns() + block.first;
        const float* mix = survey.mix_of(first + pair / regions, bin, pair % regions);
        for (Int k = 0; k < layer.mixed; k++) mixes[k * kMostSets + s - begin] = mix[k];
      }
      make(block, end - begin, call);
    }
  }
};

}  // namespace
