// The first phase of the fused call, over samples or bands of them: regions, pooled means and from these the
// coefficients of the filters; pixels as rows and lists of positions where they are wanted.
#pragma once

#include "coefficients.h"
#include "forward.h"
#include "generator.h"
#include "guide.h"

namespace {

// Pixels that a task looks at should stay in the second cache while it does so several times.
constexpr Int kSurveyBytes = 512 << 10;
// Less than this is not worth another thread.
constexpr Int kSurveyLeast = 64;
// Scores that a guide other than 1x1 writes before they become regions.
constexpr Int kScoreBytes = 2 << 20;

// The output's layout may be rows where the input's is planes.
DRCONV_INLINE Map layer_output_map(const drconv_layer& layer) {
  Map map = output_map(layer.conv);
  map.channels_last = layer.output_channels_last != 0;
  return map;
}

struct Survey {
  const drconv_layer& layer;
  const drconv_parameters* given;  // null while memory is measured
  Map in;
  Int batch, regions, positions, pixels, threads;
  Int bins, routed;  // bins of a sample, coefficients of a bin
  bool pools, lays_rows, lists;
  Int bands, band, position_band;
  const float* input;
  Scores scores;
  // Results. Per sample: the region of every position; `routed` coefficients per bin; and, if wanted, rows, positions
  // by region, and where each region's positions begin in `list`.
  int32_t* mask;
  float *mix, *rows;
  int32_t *list, *present;
  Int* start;
  // Own memory.
  PointGuide point;
  float *sums, *logits;
  int32_t* zeros;
  char* guide_memory;
  Int score_batch;
  Scratch threads_memory;
  Int thread_bytes;

  static bool point_guide(const drconv_layer& layer) {
    return !layer.scores_given && Geometry::is_pointwise(layer.guide);
  }
  static bool other_guide(const drconv_layer& layer) { return !layer.scores_given && !point_guide(layer); }

  Survey(const drconv_layer& layer, const drconv_parameters* given, bool lays_rows, bool lists, const float* input,
         const float* scores, Scratch& memory)
      : layer(layer), given(given), in(input_map(layer.conv)), batch(layer.conv.batch), regions(layer.conv.regions),
        positions(layer.conv.out_height * layer.conv.out_width), pixels(layer.conv.height * layer.conv.width),
        threads(layer.conv.threads),
        bins(layer.generator == DRCONV_POOLED ? layer.conv.kernel_h * layer.conv.kernel_w : 1),
        routed(regions * layer.mixed), pools(layer.generator != DRCONV_LEARNED), lays_rows(lays_rows), lists(lists),
        input(input),
        scores{scores, layer.conv.score_batch_stride, layer.conv.score_region_stride,
               layer.conv.score_position_stride},
        point(memory, point_guide(layer) ? in.channels : 0, regions),
        threads_memory(nullptr) {
    bands = ceil_div(pixels * in.channels * 4, kSurveyBytes);
    if (batch < 2 * threads && threads > 1) bands = most(bands, ceil_div(batch == 1 ? threads : 2 * threads, batch));
    bands = most(1, least(bands, pixels / kSurveyLeast));
    band = round_up(ceil_div(pixels, bands), 16);
    position_band = round_up(ceil_div(positions, bands), 16);
    mask = memory.take<int32_t>(batch * positions);
    mix = memory.take<float>(pools ? batch * bins * routed : 0);
    rows = memory.take<float>(lays_rows ? batch * pixels * in.channels : 0);
    list = memory.take<int32_t>(lists ? batch * positions : 0);
    start = memory.take<Int>(lists ? batch * (regions + 1) : 0);
    present = memory.take<int32_t>(lists ? 0 : batch * regions);
    sums = memory.take<float>(pools ? batch * most(bands, bins) * in.channels : 0);
    score_batch = other_guide(layer) ? least(batch, most(threads, kScoreBytes / (positions * regions * 4))) : 0;
    logits = memory.take<float>(score_batch * positions * regions);
    zeros = memory.take<int32_t>(score_batch * positions);
    guide_memory = memory.take<char>(guide_bytes());
    Scratch thread(nullptr);
    ThreadMemory(thread, *this);
    thread_bytes = thread.used();
    threads_memory = Scratch(memory.take<char>(least(threads, batch * bands) * thread_bytes));
  }

  struct ThreadMemory {
    ScoreMemory scores;
    Int* next;

    ThreadMemory(Scratch& from, const Survey& s)
        : scores(from, point_guide(s.layer) ? s.regions : 0), next(from.take<Int>(s.regions)) {}
  };

  // The guide over some samples, with rows of scores as its output.
  drconv_conv guide_of(Int samples) const {
    drconv_conv c = layer.guide;
    c.batch = samples;
    return c;
  }

  Int guide_bytes() const {
    if (score_batch == 0) return 0;
    Int bytes = 0;
    const Int sizes[2] = {score_batch, batch % score_batch};
    for (Int i = 0; i < 2; i++) {
      if (sizes[i] == 0) continue;
      const drconv_conv c = guide_of(sizes[i]);
      bytes = most(bytes, Forward(c, false, nullptr, nullptr, {}, kNoEpilogue, nullptr, nullptr).scratch_bytes());
    }
    return bytes;
  }

  void run() {
    if (point_guide(layer))
      point.fill(given->guide_weight, layer.guide.filter_out_stride, layer.guide.filter_in_stride, given->guide_bias);
    if (other_guide(layer)) run_guide();
    drconv_run_tasks(threads, batch * bands, [](void* self, Int index, Int thread) {
      static_cast<const Survey*>(self)->look(index, thread);
    }, this);
    if (bands > 1)
      drconv_run_tasks(threads, batch, [](void* self, Int index, Int thread) {
        static_cast<const Survey*>(self)->finish(index, thread);
      }, this);
  }

  // A guide that is not 1x1 is an ordinary convolution: that of one region.
  void run_guide() const {
    memset(zeros, 0, static_cast<size_t>(score_batch * positions) * sizeof(int32_t));
    for (Int first = 0; first < batch; first += score_batch) {
      const drconv_conv c = guide_of(least(score_batch, batch - first));
      Forward pass(c, false, in.at(input, first), given->guide_weight, {zeros, {}}, {given->guide_bias, DRCONV_NO_ACTIVATION},
                   logits, guide_memory);
      pass.run();
      struct Chosen {
        const Survey* survey;
        Int first;
      } chosen = {this, first};
      drconv_run_tasks(threads, c.batch, [](void* data, Int index, Int) {
        const Chosen& of = *static_cast<const Chosen*>(data);
        const Survey& s = *of.survey;
        const bool in_rows = s.layer.guide.channels_last != 0;
        const Int size = s.positions * s.regions;
        const Scores made = {s.logits, size, in_rows ? 1 : s.positions, in_rows ? s.regions : 1};
        made.regions_of(index, 0, s.positions, s.regions, s.mask + (of.first + index) * s.positions);
      }, &chosen);
    }
  }

  void look(Int index, Int thread) const {
    const Int sample = index / bands, part = index % bands;
    const ThreadMemory own = memory_of(thread);
    const float* x = in.at(input, sample);
    const Int first = least(pixels, part * band), count = least(band, pixels - first);
    const Int from = least(positions, part * position_band), chosen = least(position_band, positions - from);
    int32_t* to = mask + sample * positions + from;
    if (layer.scores_given)
      scores.regions_of(sample, from, chosen, regions, to);
    if (in.channels_last) {
      const float* here = x + first * in.pixel_stride;
      if (point_guide(layer)) guide_rows(point, here, in.pixel_stride, count, own.scores, to);
      if (pools && bins == 1)
        add_rows(here, in.pixel_stride, count, in.channels, false, sums + index * in.channels);
    } else {
      if (point_guide(layer)) guide_planes(point, x + first, in.channel_stride, count, to);
      if (lays_rows)
        transpose(x + first, in.channel_stride, in.channels, count, rows + (sample * pixels + first) * in.channels,
                  in.channels);
      if (pools && bins == 1) add_planes(x + first, in.channel_stride, count, in.channels, sums + index * in.channels);
    }
    if (bands == 1) finish(sample, thread);
  }

  void finish(Int sample, Int thread) const {
    if (pools) {
      const Int channels = in.channels;
      float* mean = sums + sample * most(bands, bins) * channels;
      if (bins == 1) {
        const float share = 1.0f / static_cast<float>(pixels);
        add_rows(mean, channels, bands, channels, false, mean);
        for (Int c = 0; c < channels; c++) mean[c] *= share;
      } else {
        pool_bins(in, in.at(input, sample), layer.conv.kernel_h, layer.conv.kernel_w, mean);
      }
      const float scale = layer.generator == DRCONV_BASIS ? 2.0f / static_cast<float>(layer.mixed) : 1.0f;
      for (Int t = 0; t < bins; t++)
        route(mean + t * channels, channels, given->routing_weight, given->routing_bias, routed, scale,
              mix + (sample * bins + t) * routed);
    }
    const int32_t* region = mask + sample * positions;
    if (lists) {
      bucket(region, positions, regions, list + sample * positions, start + sample * (regions + 1),
             memory_of(thread).next);
      return;
    }
    int32_t* occurs = present + sample * regions;
    for (Int j = 0; j < regions; j++) occurs[j] = 0;
    if (regions <= 32) {
      IntVec bits = {};
      Int p = 0;
      for (; p + kLanes <= positions; p += kLanes)
        bits |= (IntVec{} + 1) << IntVec(*reinterpret_cast<const LooseIntVec*>(region + p));
      for (int i = 0; i < kLanes; i++)
        for (Int j = 0; j < regions; j++) occurs[j] |= bits[i] >> j & 1;
      for (; p < positions; p++) occurs[region[p]] = 1;
    } else {
      for (Int p = 0; p < positions; p++) occurs[region[p]] = 1;
    }
  }

  ThreadMemory memory_of(Int thread) const {
    Scratch own = threads_memory.part(thread, thread_bytes);
    return ThreadMemory(own, *this);
  }

  Int members(Int sample, Int region) const {
    const Int* begin = start + sample * (regions + 1) + region;
    return begin[1] - begin[0];
  }
  // The coefficients of one filter, at one bin.
  const float* mix_of(Int sample, Int bin, Int region) const {
    return mix + ((sample * bins + bin) * regions + region) * layer.mixed;
  }
};

}  // namespace
