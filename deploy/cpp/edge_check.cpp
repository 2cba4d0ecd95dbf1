// Checks on a device that a bundle's model gives its golden outputs, and times it: an example of the
// C++ API of ONNX Runtime (1.12 or newer), which is all it needs.
//
//     edge-check BUNDLE [THREADS]
//
// Hashes are checked by run.py and by `exporter verify-bundle`, not here. Exit code: 0 all well,
// 1 other answers than where the bundle was made, 2 something is missing or cannot be read.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>

namespace {

constexpr const char* kInput = "image";    // uint8 [N, height, width, 3]
constexpr const char* kOutput = "logits";  // float [N, classes]
constexpr int kWarmUpRuns = 50;
constexpr size_t kRuns = 200;
constexpr double kSeconds = 1.0;

struct Array {
  std::string type;  // as numpy writes it: |u1, <f4
  std::vector<int64_t> shape;
  std::string bytes;
};

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Little-endian number of `size` bytes.
uint32_t Number(const std::string& bytes, size_t at, size_t size) {
  uint32_t value = 0;
  for (size_t i = 0; i < size; ++i) {
    value |= static_cast<uint32_t>(static_cast<unsigned char>(bytes.at(at + i))) << (8 * i);
  }
  return value;
}

std::string Slice(const std::string& bytes, size_t begin, size_t size) {
  if (begin > bytes.size() || size > bytes.size() - begin) throw std::runtime_error("a file is cut");
  return bytes.substr(begin, size);
}

// What stands between two texts; the values that are looked for this way stand there once.
std::string Between(const std::string& text, const std::string& before, const std::string& after) {
  size_t begin = text.find(before);
  if (begin == std::string::npos) throw std::runtime_error("there is no " + before);
  begin += before.size();
  return text.substr(begin, text.find_first_of(after, begin) - begin);
}

Array ReadNpy(const std::string& bytes) {
  if (bytes.compare(0, 6, "\x93NUMPY") != 0) throw std::runtime_error("golden.npz is no .npz");
  size_t width = bytes.at(6) == 1 ? 2 : 4;
  size_t length = Number(bytes, 8, width);
  std::string header = Slice(bytes, 8 + width, length);
  Array array{Between(header, "'descr': '", "'"), {}, bytes.substr(8 + width + length)};
  std::string shape = Between(header, "'shape': (", ")");
  size_t elements = 1;
  for (size_t at = 0; at < shape.size(); at = shape.find(',', at) + 1) {
    if (shape.find_first_of("0123456789", at) == std::string::npos) break;
    array.shape.push_back(std::stoll(shape.substr(at)));
    elements *= static_cast<size_t>(array.shape.back());
    if (shape.find(',', at) == std::string::npos) break;
  }
  size_t item = static_cast<size_t>(array.type.back() - '0');
  if (array.bytes.size() != elements * item) throw std::runtime_error("golden.npz is damaged");
  return array;
}

// The arrays of an .npz file by name; those of bundles are stored, not deflated.
std::map<std::string, Array> ReadNpz(const std::string& bytes) {
  constexpr uint32_t kLocalHeader = 0x04034b50;
  std::map<std::string, Array> arrays;
  for (size_t at = 0; Number(bytes, at, 4) == kLocalHeader;) {
    if (Number(bytes, at + 8, 2) != 0) throw std::runtime_error("golden.npz is compressed");
    size_t size = Number(bytes, at + 18, 4), name = Number(bytes, at + 26, 2);
    size_t begin = at + 30 + name + Number(bytes, at + 28, 2);
    arrays[Slice(bytes, at + 30, name)] = ReadNpy(Slice(bytes, begin, size));
    at = begin + size;
  }
  return arrays;
}

class Network {
 public:
  Network(Ort::Env& env, const std::filesystem::path& path, int threads)
      : session_(env, path.c_str(), Options(threads)) {}

  // Logits of one image, `shape` being {1, height, width, 3}.
  std::vector<float> operator()(uint8_t* pixels, const std::vector<int64_t>& shape) {
    size_t count = 1;
    for (int64_t side : shape) count *= static_cast<size_t>(side);
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto image = Ort::Value::CreateTensor<uint8_t>(memory, pixels, count, shape.data(), shape.size());
    auto outputs = session_.Run(Ort::RunOptions{nullptr}, &kInput, &image, 1, &kOutput, 1);
    const float* logits = outputs[0].GetTensorData<float>();
    return {logits, logits + outputs[0].GetTensorTypeAndShapeInfo().GetElementCount()};
  }

 private:
  static Ort::SessionOptions Options(int threads) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    return options;
  }

  Ort::Session session_;
};

size_t Best(const float* logits, size_t classes) {
  return static_cast<size_t>(std::max_element(logits, logits + classes) - logits);
}

void Time(Network& network, uint8_t* pixels, const std::vector<int64_t>& shape) {
  using Clock = std::chrono::steady_clock;
  for (int i = 0; i < kWarmUpRuns; ++i) network(pixels, shape);
  std::vector<double> times;
  auto begin = Clock::now();
  while (times.size() < kRuns || std::chrono::duration<double>(Clock::now() - begin).count() < kSeconds) {
    auto start = Clock::now();
    network(pixels, shape);
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  std::printf("latency: median %.3f ms, p90 %.3f ms, %zu runs\n", times[times.size() / 2],
              times[times.size() * 9 / 10], times.size());
}

bool Check(const std::filesystem::path& bundle, int threads) {
  std::string manifest = ReadFile(bundle / "manifest.json");
  double tolerance = std::stod(Between(manifest, "\"tolerance\": ", ",\n}"));
  auto golden = ReadNpz(ReadFile(bundle / "golden.npz"));
  Array& images = golden.at("images.npy");
  Array& logits = golden.at("logits.npy");
  if (images.type != "|u1" || images.shape.size() != 4 || logits.type != "<f4" ||
      logits.shape.size() != 2 || logits.shape[0] != images.shape[0] || logits.shape[0] < 1) {
    throw std::runtime_error("golden.npz holds other arrays");
  }
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "edge-check");
  Network network(env, bundle / Between(manifest, "\"file\": \"", "\""), threads);

  size_t count = static_cast<size_t>(images.shape[0]), classes = static_cast<size_t>(logits.shape[1]);
  std::vector<int64_t> shape{1, images.shape[1], images.shape[2], images.shape[3]};
  size_t image_bytes = images.bytes.size() / count;
  std::vector<float> expected(classes);
  size_t agree = 0;
  double largest = 0;
  bool within = true;
  auto* pixels = reinterpret_cast<uint8_t*>(images.bytes.data());
  for (size_t i = 0; i < count; ++i) {
    std::memcpy(expected.data(), logits.bytes.data() + i * classes * sizeof(float), classes * sizeof(float));
    std::vector<float> found = network(pixels + i * image_bytes, shape);
    if (found.size() != classes) throw std::runtime_error("the model has another number of classes");
    agree += Best(found.data(), classes) == Best(expected.data(), classes);
    for (size_t k = 0; k < classes; ++k) {
      double difference = std::fabs(static_cast<double>(found[k]) - static_cast<double>(expected[k]));
      within = within && difference <= tolerance;  // never with a NaN
      largest = std::max(largest, difference);
    }
  }
  std::printf("golden outputs: %zu of %zu classes agree, largest difference %.3g, tolerance %.3g\n", agree,
              count, largest, tolerance);
  if (agree != count || !within) return false;
  Time(network, pixels, shape);
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2 || count > 3) {
    std::fprintf(stderr, "usage: edge-check BUNDLE [THREADS]\n");
    return 2;
  }
  try {
    if (Check(arguments[1], count == 3 ? std::stoi(arguments[2]) : 1)) return 0;
    std::fprintf(stderr, "edge-check: golden outputs differ\n");
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "edge-check: %s\n", error.what());
    return 2;
  }
}
