// Where filters of the fused call come from: the generator's parameters packed for it, and tiles of filters made of them.
#pragma once

#include "scratch.h"
#include "threads.h"
#include "tiles.h"

namespace {

template <class V>
DRCONV_INLINE V load_all(const float* p) {
  V v;
  memcpy(&v, p, sizeof(V));
  return v;
}

template <class V>
DRCONV_INLINE void store_all(float* p, const V& v) {
  memcpy(p, &v, sizeof(V));
}

// Which of the two ends of a row of columns a block has, see vectors.h.
DRCONV_INLINE Int last_width(Int last) { return last <= kHalfLanes ? kHalfLanes : kLanes; }

DRCONV_INLINE Int block_width(const ColumnBlock& block) {
  return (block.vectors - 1) * kLanes + last_width(block.last);
}

// The packed parameters. A list is what one filter can be made of: one per region, or one that all regions share. They
// are packed [list][block of columns][row][mixed, bias][width of the block], so that making all filters of a block is
// one stream. A row is an input channel of a group, or for a basis one of each tap, taps outermost.
//
// Learned filters are packed as the convolution reads them: [region][tap][depth][padded columns].
struct Generator {
  Int kind, regions, out_channels, depth, taps, mixed;
  Int lists, rows, blocks, row_sets;
  Int padded;  // columns of all blocks
  const float* packed;

  Generator(const drconv_layer& layer, const float* packed)
      : kind(layer.generator), regions(layer.conv.regions), out_channels(layer.conv.out_channels),
        depth(layer.conv.in_channels / layer.conv.groups), taps(layer.conv.kernel_h * layer.conv.kernel_w),
        mixed(layer.mixed), lists(kind == DRCONV_POOLED ? regions : 1), rows(kind == DRCONV_POOLED ? depth : depth * taps),
        blocks(ceil_div(ceil_div(out_channels, kLanes), kTileVectors)), row_sets(mixed + 1), packed(packed) {
    padded = 0;
    for (Int b = 0; b < blocks; b++) padded += block_width(block(b));
  }

  ColumnBlock block(Int index) const { return ColumnBlock(kStoreTiles, out_channels, index, blocks); }

  // All blocks but the last are whole vectors.
  Int offset(Int list, const ColumnBlock& block, Int row) const {
    return (list * padded + block.first) * rows * row_sets + row * row_sets * block_width(block);
  }
  const float* at(Int list, const ColumnBlock& block, Int row) const { return packed + offset(list, block, row); }

  Int filter_columns() const { return round_up(out_channels, kLanes); }
  Int filter_size() const { return taps * depth * filter_columns(); }
  Int packed_count() const {
    return kind == DRCONV_LEARNED ? regions * filter_size() : lists * padded * rows * row_sets;
  }

  // A filter that is made for a convolution with groups, taps or strides, as this reads it.
  void set_strides(drconv_conv& c) const {
    c.shared = kind == DRCONV_LEARNED;
    c.filter_batch_stride = c.shared ? 0 : regions * filter_size();
    c.filter_region_stride = filter_size();
    c.filter_out_stride = 1;
    c.filter_in_stride = filter_columns();
    c.filter_tap_stride = depth * filter_columns();
  }

  // Where element k of row `row` of output channel `out` of a list lies among the originals; k is below `mixed`.
  Int original(Int list, Int out, Int row, Int k) const {
    if (kind == DRCONV_POOLED) return ((list * out_channels + out) * depth + row) * mixed + k;
    const Int within = row % depth * taps + row / depth;
    return ((kind == DRCONV_BASIS ? k : list) * out_channels + out) * depth * taps + within;
  }

  Int packed_at(Int list, Int out, Int row, Int k) const {
    if (kind == DRCONV_LEARNED) return list * filter_size() + row * filter_columns() + out;
    Int b = 0;
    while (b + 1 < blocks && block(b + 1).first <= out) b++;
    const ColumnBlock in = block(b);
    return offset(list, in, row) + k * block_width(in) + out - in.first;
  }

  void pack_list(const drconv_parameters& from, float* to, Int list) const {
    if (kind == DRCONV_LEARNED) {
      for (Int row = 0; row < rows; row++)
        for (Int n = 0; n < filter_columns(); n++)
          to[packed_at(list, n, row, 0)] = n < out_channels ? from.made_weight[original(list, n, row, 0)] : 0;
      return;
    }
    for (Int b = 0; b < blocks; b++) {
      const ColumnBlock in = block(b);
      const Int width = block_width(in);
      float* base = to + offset(list, in, 0);
      for (Int n = 0; n < width; n++)
        for (Int row = 0; row < rows; row++) {
          const Int out = in.first + n;
          float* column = base + row * row_sets * width + n;
          for (Int k = 0; k < mixed; k++)
            column[k * width] = out < out_channels ? from.made_weight[original(list, out, row, k)] : 0;
          const bool biased = from.made_bias && out < out_channels;
          column[mixed * width] = biased ? from.made_bias[original(list, out, row, 0) / mixed] : 0;
        }
    }
  }

  // Holds some packed elements against the originals: enough to notice that all of them have changed.
  bool is_stale(const drconv_parameters& p, Int seed) const {
    constexpr Int kDraws = 16;
    uint64_t state = static_cast<uint64_t>(seed) * 0x9e3779b97f4a7c15u + 1;
    bool same = true;
    const Int sets = kind == DRCONV_LEARNED ? regions : lists;
    for (Int i = 0; i < kDraws; i++) {
      const Int list = draw(state, sets), out = draw(state, out_channels), row = draw(state, rows), k = draw(state, mixed);
      const Int at = original(list, out, row, k);
      same &= memcmp(p.made_weight + at, packed + packed_at(list, out, row, k), sizeof(float)) == 0;
      if (kind == DRCONV_POOLED && p.made_bias)
        same &= memcmp(p.made_bias + at / mixed, packed + packed_at(list, out, row, mixed), sizeof(float)) == 0;
    }
    return !same;
  }

  static Int draw(uint64_t& state, Int below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<Int>((state >> 33) % static_cast<uint64_t>(below));
  }
};

constexpr Int kMostSets = 8;

// Filters of one block of columns for a few sets of coefficients at once, which share the reads of what is mixed.
struct MakeCall {
  const float* from;  // Generator::at
  Int rows, mixed;
  const float* mix;  // [mixed][kMostSets]
  float* to[kMostSets];
  Int to_stride;      // from row to row
  // What will be needed soon, so many lines for every row.
  const float* soon;
  Int soon_lines;
};

constexpr Int kLine = 16;  // floats

template <int kSets, int kVectors, class Last>
void make_filters(const MakeCall& call) {
  typedef typename Last::V LastVec;
  constexpr int kWhole = kVectors - 1;
  constexpr Int width = kWhole * kLanes + sizeof(LastVec) / sizeof(float);
  const Int mixed = call.mixed;
  const float *from = call.from, *soon = call.soon;
  for (Int row = 0; row < call.rows; row++) {
    Vec whole[kSets][kWhole > 0 ? kWhole : 1];
    LastVec last[kSets];
    const float* bias = from + mixed * width;
    DRCONV_UNROLL for (int v = 0; v < kWhole; v++) {
      const Vec b = load(bias + v * kLanes);
      DRCONV_UNROLL for (int s = 0; s < kSets; s++) whole[s][v] = b;
    }
    const LastVec b_last = load_all<LastVec>(bias + kWhole * kLanes);
    DRCONV_UNROLL for (int s = 0; s < kSets; s++) last[s] = b_last;
    const float* mix = call.mix;
    for (; from < bias; from += width, mix += kMostSets) {
      Vec f[kWhole > 0 ? kWhole : 1];
      DRCONV_UNROLL for (int v = 0; v < kWhole; v++) f[v] = load(from + v * kLanes);
      const LastVec f_last = load_all<LastVec>(from + kWhole * kLanes);
      DRCONV_UNROLL for (int s = 0; s < kSets; s++) {
        const float x = mix[s];
        DRCONV_UNROLL for (int v = 0; v < kWhole; v++) whole[s][v] += x * f[v];
        last[s] += x * f_last;
      }
    }
    from += width;
    DRCONV_UNROLL for (int s = 0; s < kSets; s++) {
      float* to = call.to[s] + row * call.to_stride;
      DRCONV_UNROLL for (int v = 0; v < kWhole; v++) store(to + v * kLanes, whole[s][v]);
      store_all(to + kWhole * kLanes, last[s]);
    }
    for (Int i = 0; i < call.soon_lines; i++) prefetch(soon + i * kLine);
    soon += call.soon_lines * kLine;
  }
}

typedef void (*MakeFunction)(const MakeCall&);

#define DRCONV_MAKE(sets, vectors, last) \
  (kTileRows[vectors] < sets ? nullptr : make_filters<kTileRows[vectors] < sets ? 1 : sets, vectors, last>)
#define DRCONV_MAKES(vectors, last)                                                                        \
  {nullptr,                       DRCONV_MAKE(1, vectors, last), DRCONV_MAKE(2, vectors, last),            \
   DRCONV_MAKE(3, vectors, last), DRCONV_MAKE(4, vectors, last), DRCONV_MAKE(5, vectors, last),            \
   DRCONV_MAKE(6, vectors, last), DRCONV_MAKE(7, vectors, last), DRCONV_MAKE(8, vectors, last)}

// [last vector is half][vectors][sets]
constexpr MakeFunction kMakes[2][kTileVectors + 1][kMostSets + 1] = {
    {{nullptr}, DRCONV_MAKES(1, WholeLast), DRCONV_MAKES(2, WholeLast), DRCONV_MAKES(3, WholeLast)},
    {{nullptr}, DRCONV_MAKES(1, HalfLast), DRCONV_MAKES(2, HalfLast), DRCONV_MAKES(3, HalfLast)},
};

DRCONV_INLINE void make(const ColumnBlock& block, Int sets, const MakeCall& call) {
  kMakes[block.last <= kHalfLanes][block.vectors][sets](call);
}

}  // namespace
