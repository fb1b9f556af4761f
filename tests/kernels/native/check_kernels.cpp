// The compiled kernels against plain loops, to be built with -fsanitize=address,undefined: every buffer has exactly the
// size that the interface promises, so that a read or write beyond it is caught. `make test-native` runs it.
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
  c.in_channels = c.groups * draw(1, 40);
  c.out_channels = c.groups * draw(1, 60);
  if (draw(0, 3) == 0) c.groups = c.in_channels = c.out_channels = draw(2, 37);
  const bool pointwise = draw(0, 2) == 0;
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
  return c;
}

struct Problem {
  drconv_conv c;
  Int positions, taps, depth, columns;
  std::vector<float> input, filters, grad, bias, scores;
  Int activation;
  std::vector<int32_t> mask;

  explicit Problem(const drconv_conv& c) : c(c) {
    positions = c.out_height * c.out_width;
    taps = c.kernel_h * c.kernel_w;
    depth = c.in_channels / c.groups;
    columns = c.out_channels / c.groups;
    // The last pixel, or plane, ends without the gap.
    const Int end = c.channels_last ? c.input_pixel_stride - c.in_channels
                                    : c.input_channel_stride - c.height * c.width;
    input = values(c.batch * c.input_batch_stride - end);
    filters = values((c.shared ? 1 : c.batch) * c.regions * taps * depth * c.out_channels);
    bias = values(c.out_channels);
    activation = draw(DRCONV_NO_ACTIVATION, DRCONV_HARDSWISH);
    grad = values(c.batch * c.out_channels * positions);
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

void compare(const char* what, Int isa, Int number, const std::vector<float>& found, const std::vector<double>& truth) {
  double largest = 1e-6, error = 0;
  for (double value : truth) largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < truth.size(); i++) {
    const double off = std::fabs(found[i] - truth[i]);
    error = std::isnan(off) ? INFINITY : std::max(error, off);
  }
  if (error > 4e-6 * largest) {
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
  for (Int b = 0; b < c.batch; b++)
    for (Int o = 0; o < c.out_channels; o++)
      for (Int q = 0; q < p.positions; q++) {
        double& y = output[static_cast<size_t>(p.dense_at(b, o, q, c.out_channels, p.positions))];
        y = activated(y + (has_bias ? p.bias[static_cast<size_t>(o)] : 0), p.activation);
      }
  for (Int isa = 0; isa < DRCONV_ISAS; isa++) {
    if (!drconv_has_isa(isa)) continue;
    std::vector<float> y = unwritten(static_cast<Int>(output.size()));
    with_scratch(drconv_forward_scratch(isa, &c), [&](void* scratch, Int bytes) {
      return drconv_forward(isa, &c, p.input.data(), p.filters.data(), p.mask.data(), nullptr,
                            has_bias ? p.bias.data() : nullptr, p.activation, y.data(), scratch, bytes);
    });
    compare("output", isa, number, y, output);
    y = unwritten(static_cast<Int>(output.size()));
    with_scratch(drconv_forward_scratch(isa, &c), [&](void* scratch, Int bytes) {
      return drconv_forward(isa, &c, p.input.data(), p.filters.data(), nullptr, p.scores.data(),
                            has_bias ? p.bias.data() : nullptr, p.activation, y.data(), scratch, bytes);
    });
    compare("output from scores", isa, number, y, output);
    std::vector<float> gx = unwritten(static_cast<Int>(grad_input.size()));
    with_scratch(drconv_input_gradient_scratch(isa, &c), [&](void* scratch, Int bytes) {
      return drconv_input_gradient(isa, &c, p.grad.data(), p.filters.data(), p.mask.data(), gx.data(), scratch, bytes);
    });
    compare("input gradient", isa, number, gx, grad_input);
    std::vector<float> gw = unwritten(static_cast<Int>(grad_filters.size()));
    with_scratch(drconv_filter_gradient_scratch(isa, &c), [&](void* scratch, Int bytes) {
      return drconv_filter_gradient(isa, &c, p.grad.data(), p.input.data(), p.mask.data(), gw.data(), scratch, bytes);
    });
    compare("filter gradient", isa, number, gw, grad_filters);
    std::vector<float> d = unwritten(static_cast<Int>(products.size()));
    with_scratch(drconv_products_scratch(isa, &c), [&](void* scratch, Int bytes) {
      return drconv_products(isa, &c, p.grad.data(), p.input.data(), p.filters.data(), d.data(), scratch, bytes);
    });
    compare("products", isa, number, d, products);
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
  }
  std::printf("%d problems, %d failures\n", static_cast<int>(problems), failures);
  return failures != 0;
}
