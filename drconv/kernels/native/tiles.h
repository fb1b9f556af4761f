// Register tiles: a few rows of channels, taken through a list of positions, times a filter of a few vectors.
//
// The rows of a tile belong to positions of one region, which need not be neighbours: only their addresses differ from
// an ordinary matrix product, and these are computed once per tile.
#pragma once

#include "epilogue.h"

namespace {

// Of 16 vector registers one is for the broadcast and up to three for the filter.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr Int kTileRows[4] = {0, 8, 8, 8};
#else
constexpr Int kTileRows[4] = {0, 6, 6, 4};
#endif
constexpr Int kTileVectors = 3;

// row i, column n of the result: sum over taps t and depth k of
//   rows[row_index[i] * row_stride + tap_offset[t] + k] * filter[t * tap_stride + k * depth_stride + n].
struct TileCall {
  const float* rows;
  Int row_stride;
  const int32_t* row_index;
  const Int* tap_offset;
  Int taps, depth;
  const float* filter;
  Int tap_stride, depth_stride;
  Int last;  // live lanes of the last vector
  // Stored to, or added to, out[out_index[i] * out_stride + n]; `Dot` reads it instead.
  float* out;
  Int out_stride;
  const int32_t* out_index;
  bool accumulate;
  // `store_tile` applies it last: to be left out where more is yet to be added.
  Epilogue epilogue;
  // Rows and results come from beyond the second cache.
  bool far;
  // `Dot`: dots[i] is set to, or grows by, the product of row i of the result and of `out`.
  float* dots;
  // What will be needed soon, fetched a line for every line of the filter; the step is 0 if nothing is.
  const float* soon;
  Int soon_step;
};

template <int kRows, int kVectors, class Last>
struct Result {
  static constexpr int kWhole = kVectors - 1;
  Vec whole[kRows][kWhole > 0 ? kWhole : 1];
  typename Last::V last[kRows];
};

template <int kRows, int kVectors, class Last>
DRCONV_INLINE void multiply(const TileCall& call, const Last& end, Result<kRows, kVectors, Last>& sums) {
  typedef typename Last::V LastVec;
  constexpr int kWhole = kVectors - 1;
  const float* row[kRows];
  DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
    row[i] = call.rows + static_cast<Int>(call.row_index[i]) * call.row_stride;
    DRCONV_UNROLL for (int v = 0; v < kWhole; v++) sums.whole[i][v] = Vec{};
    sums.last[i] = LastVec{};
  }
  const float* soon = call.soon;
  const Int soon_step = call.soon_step, depth = call.depth, depth_stride = call.depth_stride;
  for (Int t = 0; t < call.taps; t++) {
    const float* filter = call.filter + t * call.tap_stride;
    const Int offset = call.tap_offset[t];
    for (Int k = offset; k < offset + depth; k++) {
      Vec f[kWhole > 0 ? kWhole : 1];
      DRCONV_UNROLL for (int v = 0; v < kWhole; v++) f[v] = load(filter + v * kLanes);
      const LastVec f_last = end.load_filter(filter + kWhole * kLanes);
      DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
        const float x = row[i][k];
        DRCONV_UNROLL for (int v = 0; v < kWhole; v++) sums.whole[i][v] += x * f[v];
        sums.last[i] += x * f_last;
      }
      DRCONV_UNROLL for (int v = 0; v < kVectors; v++) prefetch(soon + v * kLanes);
      soon += soon_step;
      filter += depth_stride;
    }
  }
}

template <int kRows, int kVectors, class Last>
DRCONV_INLINE void add_bias(const float* bias, const Last& end, Result<kRows, kVectors, Last>& sums) {
  constexpr int kWhole = kVectors - 1;
  DRCONV_UNROLL for (int v = 0; v < kWhole; v++) {
    const Vec b = load(bias + v * kLanes);
    DRCONV_UNROLL for (int i = 0; i < kRows; i++) sums.whole[i][v] += b;
  }
  const typename Last::V b = end.load(bias + kWhole * kLanes);
  DRCONV_UNROLL for (int i = 0; i < kRows; i++) sums.last[i] += b;
}

template <Int kActivation, int kRows, int kVectors, class Last>
DRCONV_INLINE void activate_as(Result<kRows, kVectors, Last>& sums) {
  DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
    DRCONV_UNROLL for (int v = 0; v < kVectors - 1; v++) sums.whole[i][v] = activated<kActivation>(sums.whole[i][v]);
    sums.last[i] = activated<kActivation>(sums.last[i]);
  }
}

template <int kRows, int kVectors, class Last>
DRCONV_INLINE void activate_tile(Int activation, Result<kRows, kVectors, Last>& sums) {
  switch (activation) {
    case DRCONV_RELU: return activate_as<DRCONV_RELU>(sums);
    case DRCONV_RELU6: return activate_as<DRCONV_RELU6>(sums);
    case DRCONV_HARDSWISH: return activate_as<DRCONV_HARDSWISH>(sums);
    default: return;
  }
}

template <int kRows, int kVectors, class Last>
void store_tile(const TileCall& call) {
  constexpr int kWhole = kVectors - 1;
  const Last end(call.last);
  Result<kRows, kVectors, Last> sums;
  multiply<kRows, kVectors, Last>(call, end, sums);
  if (call.accumulate) {
    DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
      const float* out = call.out + static_cast<Int>(call.out_index[i]) * call.out_stride;
      DRCONV_UNROLL for (int v = 0; v < kWhole; v++) sums.whole[i][v] += load(out + v * kLanes);
      sums.last[i] += end.load(out + kWhole * kLanes);
    }
  }
  if (call.epilogue.bias) add_bias(call.epilogue.bias, end, sums);
  if (call.epilogue.activation) activate_tile(call.epilogue.activation, sums);
  DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
    float* out = call.out + static_cast<Int>(call.out_index[i]) * call.out_stride;
    DRCONV_UNROLL for (int v = 0; v < kWhole; v++) store(out + v * kLanes, sums.whole[i][v]);
    end.store(out + kWhole * kLanes, sums.last[i]);
  }
}

template <int kRows, int kVectors, class Last>
void dot_tile(const TileCall& call) {
  constexpr int kWhole = kVectors - 1;
  const Last end(call.last);
  Result<kRows, kVectors, Last> sums;
  multiply<kRows, kVectors, Last>(call, end, sums);
  DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
    const float* other = call.out + static_cast<Int>(call.out_index[i]) * call.out_stride;
    // Dead lanes may hold NaN where a row holds infinity.
    Vec total = end.product(sums.last[i], end.load(other + kWhole * kLanes));
    DRCONV_UNROLL for (int v = 0; v < kWhole; v++) total += sums.whole[i][v] * load(other + v * kLanes);
    const float dot = sum(total);
    call.dots[i] = call.accumulate ? call.dots[i] + dot : dot;
  }
}

typedef void (*TileFunction)(const TileCall&);

#define DRCONV_TILES(kind, vectors, last)                                                                         \
  {nullptr,                  kind<1, vectors, last>, kind<2, vectors, last>, kind<3, vectors, last>,              \
   kind<4, vectors, last>,   kTileRows[vectors] < 5 ? nullptr : kind<kTileRows[vectors] < 5 ? 1 : 5, vectors, last>, \
   kTileRows[vectors] < 6 ? nullptr : kind<kTileRows[vectors] < 6 ? 1 : 6, vectors, last>,                        \
   kTileRows[vectors] < 7 ? nullptr : kind<kTileRows[vectors] < 7 ? 1 : 7, vectors, last>,                        \
   kTileRows[vectors] < 8 ? nullptr : kind<kTileRows[vectors] < 8 ? 1 : 8, vectors, last>}

#define DRCONV_TILE_TABLE(kind)                                                                         \
  {                                                                                                     \
    {{nullptr}, DRCONV_TILES(kind, 1, WholeLast), DRCONV_TILES(kind, 2, WholeLast),                     \
     DRCONV_TILES(kind, 3, WholeLast)},                                                                 \
    {{nullptr}, DRCONV_TILES(kind, 1, HalfLast), DRCONV_TILES(kind, 2, HalfLast),                       \
     DRCONV_TILES(kind, 3, HalfLast)},                                                                  \
  }

// [last vector is half][vectors][rows]
typedef TileFunction TileTable[2][kTileVectors + 1][9];
constexpr TileTable kStoreTiles = DRCONV_TILE_TABLE(store_tile);
constexpr TileTable kDotTiles = DRCONV_TILE_TABLE(dot_tile);

// Some columns of a filter, and the tiles for them.
struct ColumnBlock {
  Int first, vectors, last;
  const TileFunction* tiles;

  ColumnBlock(const TileTable& table, Int columns, Int index, Int blocks) {
    const Int all = ceil_div(columns, kLanes);
    const Int from = all * index / blocks, to = all * (index + 1) / blocks;
    first = from * kLanes;
    vectors = to - from;
    last = least(columns, to * kLanes) - (to - 1) * kLanes;
    tiles = table[last <= kHalfLanes][vectors];
  }
};

constexpr Int kFilterInL1 = 24 << 10;

inline void run_tiles(TileCall call, const ColumnBlock& block, Int first, Int count, bool dot) {
  call.row_index += first;
  call.out_index += first;
  call.filter += block.first;
  call.out += block.first;
  call.epilogue = call.epilogue.from(block.first);
  call.last = block.last;
  if (dot) {
    call.dots += first;
    call.accumulate = call.accumulate || block.first > 0;
  }
  block.tiles[count](call);
}

// Fetches rows that the tile after this one reads and writes: they lie as scattered as their region, which no prefetcher
// of the machine follows.
DRCONV_INLINE void prefetch_rows(const TileCall& call, Int from, Int to, Int columns) {
  constexpr Int kLine = 16;  // floats
  for (Int i = from; i < to; i++) {
    const float* row = call.rows + static_cast<Int>(call.row_index[i]) * call.row_stride + call.tap_offset[0];
    for (Int k = 0; k < call.depth; k += kLine) __builtin_prefetch(row + k, 0, 3);
    const float* out = call.out + static_cast<Int>(call.out_index[i]) * call.out_stride;
    for (Int n = 0; n < columns; n += kLine) __builtin_prefetch(out + n, 1, 3);
  }
}

// Multiplies `count` listed rows with all columns of a filter. `next` are the filters needed after this one, which are
// fetched while the first rows pass: nothing else hides the memory's latency where filters outweigh the map.
inline void multiply_rows(const TileTable& table, const TileCall& call, Int count, Int columns, const float* next) {
  const bool dot = &table == &kDotTiles;
  const Int blocks = ceil_div(ceil_div(columns, kLanes), kTileVectors);
  TileCall now = call;
  now.soon = call.filter;
  now.soon_step = 0;
  const Int steps = call.taps * call.depth;
  if (blocks > 1 && steps * columns * 4 <= kFilterInL1) {
    // The filter stays in the first cache: finish whole rows of the result.
    const Int rows = kTileRows[kTileVectors], parts = ceil_div(count, rows);
    for (Int part = 0; part < parts; part++) {
      const Int from = count * part / parts, to = count * (part + 1) / parts;
      if (call.far) prefetch_rows(call, to, least(count, to + rows), columns);
      for (Int b = 0; b < blocks; b++) {
        const ColumnBlock block(table, columns, b, blocks);
        TileCall tile = now;
        if (part == 0 && next) {
          tile.soon = next;
          tile.soon_step = block.vectors * kLanes;
          next += steps * tile.soon_step;
        }
        run_tiles(tile, block, from, to - from, dot);
      }
    }
    return;
  }
  for (Int b = 0; b < blocks; b++) {
    const ColumnBlock block(table, columns, b, blocks);
    const Int parts = ceil_div(count, kTileRows[block.vectors]);
    for (Int part = 0; part < parts; part++) {
      // Even parts, so that none is tiny.
      const Int from = count * part / parts, to = count * (part + 1) / parts;
      if (call.far && b == 0) prefetch_rows(call, to, least(count, to + kTileRows[block.vectors]), columns);
      TileCall tile = now;
      if (part == 0 && next) {
        tile.soon = next;
        tile.soon_step = block.vectors * kLanes;
        next += steps * tile.soon_step;
      }
      run_tiles(tile, block, from, to - from, dot);
    }
  }
}

}  // namespace
