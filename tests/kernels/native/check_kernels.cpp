// The compiled kernels against plain loops, to be built with -fsanitize=address,undefined: every buffer has exactly the
// size that the interface promises, so that a read or write beyond it is caught. `make test-native` runs it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "drconv_native.h"

namespace {

typedef int64_t Int;

std::mt19937 generator(1);

Int draw(Int low, Int high) { return std::uniform_int_distribution<Int>(low, high)(generator); }

// Heap memory of its own, so that both ends are guarded.
std::vector<float> values(Int count) {
  std::normal_distribution<float> normal;
  std::vector<float> found(static_cast<size_t>(count));
  for (float& value : found) value = normal(generator);
  return found;
}

// As a call wants it in memory: floats, or their upper halves.
typedef std::vector<char> Stored;

Stored stored(const std::vector<float>& values, bool half) {
  Stored found(values.size() * (half ? 2 : 4));
  for (size_t i = 0; i < values.size(); i++) {
    const char* bytes = reinterpret_cast<const char*>(&values[i]);
    std::copy(bytes + (half ? 2 : 0), bytes + 4, found.data() + i * (half ? 2 : 4));
  }
  return found;
}

std::vector<float> restored(const Stored& bytes, bool half) {
  std::vector<float> found(bytes.size() / (half ? 2 : 4), 0);
  for (size_t i = 0; i < found.size(); i++)
    std::copy_n(bytes.data() + i * (half ? 2 : 4), half ? 2 : 4, reinterpret_cast<char*>(&found[i]) + (half ? 2 : 0));
  return found;
}

// Every byte set is NaN in both.
Stored unwritten(size_t count, bool half) { return Stored(count * (half ? 2 : 4), static_cast<char>(0xff)); }

std::vector<float> unwritten(Int count) { return std::vector<float>(static_cast<size_t>(count), NAN); }

thread_local int number = 0;
int size = 1;

// One thread less than asked for, as a runtime may give.
void on_threads(void (*body)(void*), void* data, unsigned threads, unsigned) {
  std::vector<std::thread> team;
  size = static_cast<int>(threads > 2 ? threads - 1 : threads);
  for (int i = 0; i < size; i++)
    team.emplace_back([=] {
      number = i;
      body(data);
    });
  for (std::thread& member : team) member.join();
}

drconv_conv random_conv() {
  drconv_conv c = {};
  c.batch = draw(1, 3);
  c.regions = draw(1, 4) == 1 ? draw(17, 20) : draw(1, 9);
  c.groups = draw(0, 2) == 0 ? draw(2, 3) : 1;
  const bool deep = draw(0, 11) == 0;  // more than the fused call takes in one go
  c.in_channels = deep ? draw(257, 300) : c.groups * draw(1, 40);
  if (deep) c.groups = 1;
  c.out_channels = c.groups * draw(1, 60);
  if (draw(0, 3) == 0) c.groups = c.in_channels = c.out_channels = draw(2, 37);
  const bool pointwise = deep || draw(0, 2) == 0;
  c.kernel_h = pointwise ? 1 : draw(1, 4);
  c.kernel_w = pointwise ? 1 : draw(1, 4);
  c.stride_h = pointwise ? 1 : draw(1, 3);
  c.stride_w = pointwise ? 1 : draw(1, 3);
  c.pad_h = pointwise ? 0 : draw(0, 2);
  c.pad_w = pointwise ? 0 : draw(0, 2);
  c.dilation_h = draw(1, 2);
  c.dilation_w = draw(1, 2);
  const Int reach_h = c.dilation_h * (c.kernel_h - 1) + 1, reach_w = c.dilation_w * (c.kernel_w - 1) + 1;
  c.height = std::max<Int>(1, reach_h - 2 * c.pad_h) + draw(0, 12);
  c.width = std::max<Int>(1, reach_w - 2 * c.pad_w) + draw(0, 12);
  c.out_height = (c.height + 2 * c.pad_h - reach_h) / c.stride_h + 1;
  c.out_width = (c.width + 2 * c.pad_w - reach_w) / c.stride_w + 1;
  c.channels_last = draw(0, 1);
  const Int gap = draw(0, 2);
  c.input_pixel_stride = c.channels_last ? c.in_channels + gap : 1;
  c.input_channel_stride = c.channels_last ? 1 : c.height * c.width + gap;
  c.input_batch_stride = c.channels_last ? c.height * c.width * c.input_pixel_stride
                                         : c.in_channels * c.input_channel_stride;
  c.shared = draw(0, 1);
  const Int taps = c.kernel_h * c.kernel_w, depth = c.in_channels / c.groups, size = taps * depth * c.out_channels;
  if (draw(0, 1)) {
    c.filter_out_stride = depth * taps, c.filter_in_stride = taps, c.filter_tap_stride = 1;
  } else {
    c.filter_out_stride = 1, c.filter_in_stride = c.out_channels, c.filter_tap_stride = depth * c.out_channels;
  }
  c.filter_region_stride = size;
  c.filter_batch_stride = c.shared ? 0 : size * c.regions;
  const Int positions = c.out_height * c.out_width;
  const bool rows = draw(0, 1);
  c.score_batch_stride = c.regions * positions;
  c.score_region_stride = rows ? 1 : positions;
  c.score_position_stride = rows ? c.regions : 1;
  c.threads = draw(1, 3);
  c.bfloat16 = draw(0, 3) == 0;
  return c;
}

struct Problem {
  drconv_conv c;
  Int positions, taps, depth, columns;
  std::vector<float> input, filters, grad, bias, scores;
  Int activation;
  std::vector<int32_t> mask;

  // Values that bfloat16 can hold, where that is wanted.
  std::vector<float> exact(Int count) const {
    const bool half = c.bfloat16 != 0;
    return restored(stored(values(count), half), half);
  }

  explicit Problem(const drconv_conv& c) : c(c) {
    positions = c.out_height * c.out_width;
    taps = c.kernel_h * c.kernel_w;
    depth = c.in_channels / c.groups;
    columns = c.out_channels / c.groups;
    // The last pixel, or plane, ends without the gap.
    const Int end = c.channels_last ? c.input_pixel_stride - c.in_channels
                                    : c.input_channel_stride - c.height * c.width;
    input = exact(c.batch * c.input_batch_stride - end);
    filters = exact((c.shared ? 1 : c.batch) * c.regions * taps * depth * c.out_channels);
    bias = values(c.out_channels);
    activation = draw(DRCONV_NO_ACTIVATION, DRCONV_HARDSWISH);
    grad = exact(c.batch * c.out_channels * positions);
    mask.resize(static_cast<size_t>(c.batch * positions));
    for (int32_t& region : mask) region = static_cast<int32_t>(draw(0, c.regions - 1));
    scores = values(c.batch * c.regions * positions);
    for (Int b = 0; b < c.batch; b++)
      for (Int q = 0; q < positions; q++)
        scores[static_cast<size_t>(b * c.score_batch_stride + q * c.score_position_stride +
                                   mask[static_cast<size_t>(b * positions + q)] * c.score_region_stride)] = 100;
  }

  Int input_at(Int b, Int channel, Int y, Int x) const {
    return b * c.input_batch_stride + channel * c.input_channel_stride + (y * c.width + x) * c.input_pixel_stride;
  }
  Int dense_at(Int b, Int channel, Int pixel, Int channels, Int pixels) const {
    return c.channels_last ? (b * pixels + pixel) * channels + channel : (b * channels + channel) * pixels + pixel;
  }
  Int filter_at(Int b, Int region, Int out, Int into, Int tap) const {
    return b * c.filter_batch_stride + region * c.filter_region_stride + out * c.filter_out_stride +
           into * c.filter_in_stride + tap * c.filter_tap_stride;
  }

  // Calls back for every multiply-add of every region's filter.
  template <class Visit>
  void each(Visit visit) const {
    for (Int b = 0; b < c.batch; b++)
      for (Int p = 0; p < positions; p++)
        for (Int o = 0; o < c.out_channels; o++)
          for (Int i = 0; i < depth; i++)
            for (Int t = 0; t < taps; t++) {
              const Int y = p / c.out_width * c.stride_h - c.pad_h + t / c.kernel_w * c.dilation_h;
              const Int x = p % c.out_width * c.stride_w - c.pad_w + t % c.kernel_w * c.dilation_w;
              if (y >= 0 && y < c.height && x >= 0 && x < c.width) visit(b, p, o, i, o / columns * depth + i, t, y, x);
            }
  }
};

double activated(double x, Int activation) {
  const double above = std::max(x, 0.0);
  switch (activation) {
    case DRCONV_RELU: return above;
    case DRCONV_RELU6: return std::min(above, 6.0);
    case DRCONV_HARDSWISH: return x * std::min(std::max(x + 3, 0.0), 6.0) / 6;
    default: return x;
  }
}

int failures = 0;

void compare(const char* what, Int isa, Int number, const std::vector<float>& found, const std::vector<double>& truth,
             double largest = 1e-6, double allowed = 4e-6) {
  double error = 0;
  for (double value : truth) largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < truth.size(); i++) {
    const double off = std::fabs(found[i] - truth[i]);
    error = std::isnan(off) ? INFINITY : std::max(error, off);
  }
  if (error > allowed * largest) {
    std::printf("problem %d, instruction set %d: %s is off by %g of %g\n", static_cast<int>(number),
                static_cast<int>(isa), what, error, largest);
    failures++;
  }
}

// As the caller gives it: 64-byte aligned, not a byte more than asked for, and full of NaN.
template <class Call>
void with_scratch(Int bytes, Call call) {
  char* memory = static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes + 63) / 64 * 64));
  for (Int i = 0; i < bytes; i++) memory[i] = static_cast<char>(0xff);
  const Int status = call(memory, bytes);
  const Int refused = bytes > 0 ? call(memory, bytes - 1) : static_cast<Int>(DRCONV_SCRATCH_TOO_SMALL);
  if (status != DRCONV_OK || refused != DRCONV_SCRATCH_TOO_SMALL) {
    std::printf("status %d, with less scratch %d\n", static_cast<int>(status), static_cast<int>(refused));
    failures++;
  }
  std::free(memory);
}

void check(const Problem& p, Int number) {
  const drconv_conv& c = p.c;
  const Int pixels = c.height * c.width, filter_size = c.out_channels * p.depth * p.taps;
  std::vector<double> output(p.grad.size()), grad_input(static_cast<size_t>(c.batch * c.in_channels * pixels)),
      grad_filters(p.filters.size()), products(static_cast<size_t>(c.batch * c.regions * p.positions));
  p.each([&](Int b, Int q, Int o, Int i, Int channel, Int t, Int y, Int x) {
    const Int region = p.mask[static_cast<size_t>(b * p.positions + q)];
    const Int at = p.dense_at(b, o, q, c.out_channels, p.positions);
    const double in = p.input[static_cast<size_t>(p.input_at(b, channel, y, x))], grad = p.grad[static_cast<size_t>(at)];
    const double filter = p.filters[static_cast<size_t>(p.filter_at(b, region, o, i, t))];
    output[static_cast<size_t>(at)] += in * filter;
    grad_input[static_cast<size_t>(p.dense_at(b, channel, y * c.width + x, c.in_channels, pixels))] += grad * filter;
    const Int set = c.shared ? 0 : b;
    grad_filters[static_cast<size_t>((set * c.regions + region) * filter_size + (o * p.depth + i) * p.taps + t)] +=
        grad * in;
    for (Int j = 0; j < c.regions; j++)
      products[static_cast<size_t>((b * c.regions + j) * p.positions + q)] +=
          grad * in * p.filters[static_cast<size_t>(p.filter_at(b, j, o, i, t))];
  });
  const bool has_bias = draw(0, 1);
  double largest = 1e-6;  // before an activation clips it
  for (Int b = 0; b < c.batch; b++)
    for (Int o = 0; o < c.out_channels; o++)
      for (Int q = 0; q < p.positions; q++) {
        double& y = output[static_cast<size_t>(p.dense_at(b, o, q, c.out_channels, p.positions))];
        y += has_bias ? p.bias[static_cast<size_t>(o)] : 0;
        largest = std::max(largest, std::fabs(y));
        y = activated(y, p.activation);
      }
  const bool half = c.bfloat16 != 0;
  const double allowed = half ? 4e-3 : 4e-6;
  const Stored input = stored(p.input, half), filters = stored(p.filters, half), grad = stored(p.grad, half);
  for (Int isa = 0; isa < DRCONV_ISAS; isa++) {
    if (!drconv_has_isa(isa)) continue;
    for (const bool from_scores : {false, true}) {
      Stored y = unwritten(output.size(), half);
      with_scratch(drconv_forward_scratch(isa, &c), [&](void* scratch, Int bytes) {
        return drconv_forward(isa, &c, input.data(), filters.data(), from_scores ? nullptr : p.mask.data(),
                              from_scores ? p.scores.data() : nullptr, has_bias ? p.bias.data() : nullptr, p.activation,
                              y.data(), scratch, bytes);
      });
      compare(from_scores ? "output from scores" : "output", isa, number, restored(y, half), output, largest, allowed);
    }
    Stored gx = unwritten(grad_input.size(), half);
    with_scratch(drconv_input_gradient_scratch(isa, &c), [&](void* scratch, Int bytes) {
      return drconv_input_gradient(isa, &c, grad.data(), filters.data(), p.mask.data(), gx.data(), scratch, bytes);
    });
    compare("input gradient", isa, number, restored(gx, half), grad_input, 1e-6, allowed);
    Stored gw = unwritten(grad_filters.size(), half);
    with_scratch(drconv_filter_gradient_scratch(isa, &c), [&](void* scratch, Int bytes) {
      return drconv_filter_gradient(isa, &c, grad.data(), input.data(), p.mask.data(), gw.data(), scratch, bytes);
    });
    compare("filter gradient", isa, number, restored(gw, half), grad_filters, 1e-6, allowed);
    std::vector<float> d = unwritten(static_cast<Int>(products.size()));
    with_scratch(drconv_products_scratch(isa, &c), [&](void* scratch, Int bytes) {
      return drconv_products(isa, &c, grad.data(), input.data(), filters.data(), d.data(), scratch, bytes);
    });
    compare("products", isa, number, d, products);
  }
}

// A whole layer, its parameters, and what it should give.
struct Layer {
  drconv_layer sizes = {};
  std::vector<float> guide_weight, guide_bias, routing_weight, routing_bias, made_weight, made_bias, bias, scores;
  drconv_parameters parameters = {};

  explicit Layer(const drconv_conv& c) {
    sizes.conv = sizes.guide = c;
    sizes.generator = draw(DRCONV_POOLED, DRCONV_LEARNED);
    sizes.mixed = sizes.generator == DRCONV_POOLED ? c.regions : sizes.generator == DRCONV_BASIS ? draw(1, 9) : 1;
    sizes.scores_given = draw(0, 3) == 0;
    sizes.output_channels_last = c.channels_last || draw(0, 2) == 0;
    drconv_conv& g = sizes.guide;
    g.groups = g.regions = g.shared = 1;
    g.out_channels = c.regions;
    if (c.out_height == c.height && c.out_width == c.width && draw(0, 2) > 0) {
      g.kernel_h = g.kernel_w = g.stride_h = g.stride_w = g.dilation_h = g.dilation_w = 1;
      g.pad_h = g.pad_w = 0;
    }
    const Int taps = g.kernel_h * g.kernel_w;
    if (draw(0, 1)) {
      g.filter_out_stride = taps * c.in_channels, g.filter_in_stride = taps, g.filter_tap_stride = 1;
    } else {
      g.filter_out_stride = taps * c.in_channels, g.filter_in_stride = 1, g.filter_tap_stride = c.in_channels;
    }
    g.filter_region_stride = g.filter_batch_stride = 0;
    const Int positions = c.out_height * c.out_width;
    if (sizes.scores_given) scores = values(c.batch * c.regions * positions);
    const Int routed = c.regions * sizes.mixed, filter = c.out_channels * (c.in_channels / c.groups);
    const Int spread = c.kernel_h * c.kernel_w * filter;
    if (!sizes.scores_given) guide_weight = values(c.regions * c.in_channels * taps), guide_bias = values(c.regions);
    if (sizes.generator != DRCONV_LEARNED) routing_weight = values(routed * c.in_channels), routing_bias = values(routed);
    made_weight = values(sizes.generator == DRCONV_POOLED ? c.regions * filter * sizes.mixed
                         : sizes.generator == DRCONV_BASIS ? sizes.mixed * spread : c.regions * spread);
    if (sizes.generator == DRCONV_POOLED) made_bias = values(c.regions * filter);
    bias = values(c.out_channels);
    const auto maybe = [](const std::vector<float>& of) { return of.empty() || draw(0, 3) == 0 ? nullptr : of.data(); };
    parameters = {guide_weight.data(), maybe(guide_bias), routing_weight.data(), maybe(routing_bias),
                  made_weight.data(),  maybe(made_bias),  nullptr,               maybe(bias),
                  draw(DRCONV_NO_ACTIVATION, DRCONV_HARDSWISH)};
  }
};

double at_or_zero(const float* of, Int index) { return of ? of[index] : 0; }

// Regions of a layer, -1 where two scores are so near each other that rounding decides.
std::vector<Int> regions_of(const Layer& layer, const Problem& p) {
  const drconv_conv &c = p.c, &g = layer.sizes.guide;
  std::vector<Int> found;
  for (Int b = 0; b < c.batch; b++)
    for (Int q = 0; q < p.positions; q++) {
      double best = -INFINITY, second = -INFINITY;
      Int where = 0;
      for (Int j = 0; j < c.regions; j++) {
        double score = 0;
        if (layer.sizes.scores_given) {
          score = layer.scores[static_cast<size_t>(b * c.score_batch_stride + j * c.score_region_stride +
                                                   q * c.score_position_stride)];
        } else {
          score = at_or_zero(layer.parameters.guide_bias, j);
          for (Int i = 0; i < c.in_channels; i++)
            for (Int t = 0; t < g.kernel_h * g.kernel_w; t++) {
              const Int y = q / c.out_width * g.stride_h - g.pad_h + t / g.kernel_w * g.dilation_h;
              const Int x = q % c.out_width * g.stride_w - g.pad_w + t % g.kernel_w * g.dilation_w;
              if (y < 0 || y >= c.height || x < 0 || x >= c.width) continue;
              score += static_cast<double>(p.input[static_cast<size_t>(p.input_at(b, i, y, x))]) *
                       layer.guide_weight[static_cast<size_t>(j * g.filter_out_stride + i * g.filter_in_stride +
                                                              t * g.filter_tap_stride)];
            }
        }
        if (score > best) second = best, best = score, where = j;
        else second = std::max(second, score);
      }
      found.push_back(best - second < 1e-4 ? -1 : where);
    }
  return found;
}

// The filters of all regions, in the strides of `c`: dense [B, M, O, C/groups, K*K].
std::vector<float> filters_of(const Layer& layer, const Problem& p, const drconv_conv& c) {
  const drconv_parameters& given = layer.parameters;
  const Int mixed = layer.sizes.mixed, filter = c.out_channels * p.depth, bins = p.taps;
  std::vector<float> found(static_cast<size_t>(c.batch * c.regions * filter * p.taps));
  for (Int b = 0; b < c.batch; b++)
    for (Int j = 0; j < c.regions; j++)
      for (Int t = 0; t < p.taps; t++) {
        std::vector<double> mix(static_cast<size_t>(mixed), 1.0);
        // The basis pools everything into one bin.
        const bool whole = layer.sizes.generator == DRCONV_BASIS;
        const Int bin = whole ? 0 : t, bins_h = whole ? 1 : c.kernel_h, bins_w = whole ? 1 : c.kernel_w;
        const Int top = bin / bins_w * c.height / bins_h, bottom = ((bin / bins_w + 1) * c.height + bins_h - 1) / bins_h;
        const Int left = bin % bins_w * c.width / bins_w, right = ((bin % bins_w + 1) * c.width + bins_w - 1) / bins_w;
        for (Int k = 0; k < mixed && layer.sizes.generator != DRCONV_LEARNED; k++) {
          double sum = at_or_zero(given.routing_bias, j * mixed + k);
          for (Int i = 0; i < c.in_channels; i++) {
            double mean = 0;
            for (Int y = top; y < bottom; y++)
              for (Int x = left; x < right; x++) mean += p.input[static_cast<size_t>(p.input_at(b, i, y, x))];
            sum += mean / static_cast<double>((bottom - top) * (right - left)) *
                   layer.routing_weight[static_cast<size_t>((j * mixed + k) * c.in_channels + i)];
          }
          mix[static_cast<size_t>(k)] = (whole ? 2.0 / static_cast<double>(mixed) : 1.0) / (1 + std::exp(-sum));
        }
        for (Int e = 0; e < filter; e++) {
          double sum = 0;
          for (Int k = 0; k < mixed; k++) {
            const Int at = layer.sizes.generator == DRCONV_POOLED  ? (j * filter + e) * mixed + k
                           : layer.sizes.generator == DRCONV_BASIS ? (k * filter + e) * bins + t
                                                                   : (j * filter + e) * bins + t;
            sum += mix[static_cast<size_t>(k)] * layer.made_weight[static_cast<size_t>(at)];
          }
          if (layer.sizes.generator == DRCONV_POOLED) sum += at_or_zero(given.made_bias, j * filter + e);
          found[static_cast<size_t>(((b * c.regions + j) * filter + e) * p.taps + t)] = static_cast<float>(sum);
        }
      }
  return found;
}

void check_layer(Int number) {
  drconv_conv c = random_conv();
  c.bfloat16 = 0;  // not taken
  Layer layer(c);
  Problem p(c);
  const std::vector<Int> regions = regions_of(layer, p);
  p.c.shared = 0;
  p.c.filter_out_stride = p.depth * p.taps, p.c.filter_in_stride = p.taps, p.c.filter_tap_stride = 1;
  p.c.filter_region_stride = c.out_channels * p.depth * p.taps;
  p.c.filter_batch_stride = p.c.filter_region_stride * c.regions;
  p.filters = filters_of(layer, p, c);
  std::vector<double> output(p.grad.size());
  // The output may be rows where the input is planes.
  Problem laid_out = p;
  laid_out.c.channels_last = layer.sizes.output_channels_last;
  const auto output_at = [&](Int b, Int o, Int q, Int channels, Int pixels) {
    return laid_out.dense_at(b, o, q, channels, pixels);
  };
  p.each([&](Int b, Int q, Int o, Int i, Int channel, Int t, Int y, Int x) {
    const Int region = regions[static_cast<size_t>(b * p.positions + q)];
    if (region < 0) return;
    output[static_cast<size_t>(output_at(b, o, q, c.out_channels, p.positions))] +=
        static_cast<double>(p.input[static_cast<size_t>(p.input_at(b, channel, y, x))]) *
        p.filters[static_cast<size_t>(p.filter_at(b, region, o, i, t))];
  });
  double largest = 1e-6;
  for (double value : output) largest = std::max(largest, std::fabs(value));
  for (Int isa = 0; isa < DRCONV_ISAS; isa++) {
    if (!drconv_has_isa(isa)) continue;
    std::vector<float> packed = unwritten(drconv_packed_size(isa, &layer.sizes) / static_cast<Int>(sizeof(float)));
    drconv_pack(isa, &layer.sizes, &layer.parameters, packed.data());
    drconv_parameters parameters = layer.parameters;
    parameters.packed = packed.data();
    const drconv_parameters& now = layer.parameters;
    std::vector<float> y = unwritten(static_cast<Int>(output.size()));
    const auto infer = [&](void* scratch, Int bytes) {
      return drconv_infer(isa, &layer.sizes, &parameters, now.guide_weight, now.guide_bias, now.routing_weight,
                          now.routing_bias, now.made_weight, now.made_bias, now.bias, p.input.data(), layer.scores.data(), number, y.data(), scratch,
                          bytes);
    };
    with_scratch(drconv_infer_scratch(isa, &layer.sizes), infer);
    std::vector<double> expected = output;
    for (Int b = 0; b < c.batch; b++)
      for (Int q = 0; q < p.positions; q++)
        for (Int o = 0; o < c.out_channels; o++) {
          const size_t at = static_cast<size_t>(output_at(b, o, q, c.out_channels, p.positions));
          const bool known = regions[static_cast<size_t>(b * p.positions + q)] >= 0;
          expected[at] = known ? activated(output[at] + at_or_zero(parameters.bias, o), parameters.activation) : y[at];
        }
    compare("layer", isa, number, y, expected, largest);
    for (float& value : layer.made_weight) value += 1;
    if (infer(nullptr, 0) != DRCONV_STALE) {
      std::printf("layer %d: new parameters went unnoticed\n", static_cast<int>(number));
      failures++;
    }
    for (float& value : layer.made_weight) value -= 1;
    parameters.made_weight = nullptr;
    if (infer(nullptr, 0) != DRCONV_MOVED) {
      std::printf("layer %d: moved parameters went unnoticed\n", static_cast<int>(number));
      failures++;
    }
  }
}

void check_argmax(Int number) {
  const Int batch = draw(1, 3), regions = draw(1, 70), positions = draw(1, 50);
  const bool rows = draw(0, 1);
  std::vector<float> scores = values(batch * regions * positions);
  for (float& score : scores) score = draw(0, 9) == 0 ? NAN : std::round(score);
  const Int region_stride = rows ? 1 : positions, position_stride = rows ? regions : 1;
  for (Int isa = 0; isa < DRCONV_ISAS; isa++) {
    if (!drconv_has_isa(isa)) continue;
    std::vector<int32_t> mask(static_cast<size_t>(batch * positions), -1);
    drconv_argmax(isa, scores.data(), batch, regions, positions, regions * positions, region_stride, position_stride, 2,
                  mask.data());
    for (Int b = 0; b < batch; b++)
      for (Int p = 0; p < positions; p++) {
        Int best = 0;
        for (Int j = 1; j < regions; j++) {
          const float* of = scores.data() + b * regions * positions + p * position_stride;
          const float score = of[j * region_stride], top = of[best * region_stride];
          if (score > top || (std::isnan(score) && !std::isnan(top))) best = j;
        }
        if (mask[static_cast<size_t>(b * positions + p)] != best) {
          std::printf("argmax %d: wrong region\n", static_cast<int>(number));
          failures++;
        }
      }
  }
}

}  // namespace

int main(int arguments, char** argument) {
  const Int problems = arguments > 1 ? std::atoi(argument[1]) : 100;
  drconv_set_parallel(on_threads, [] { return number; }, [] { return size; });
  for (Int number = 0; number < problems; number++) {
    check(Problem(random_conv()), number);
    check_argmax(number);
    check_layer(number);
  }
  std::printf("%d problems, %d failures\n", static_cast<int>(problems), failures);
  return failures != 0;
}
