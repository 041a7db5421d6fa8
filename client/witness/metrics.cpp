#include "client/witness/metrics.h"

#include <prometheus/text_serializer.h>

#include <array>

namespace sallyport::witness {
namespace {

// A reader of alerts should see a 0 before the first error, not nothing.
constexpr std::array<std::string_view, 3> kErrorKinds = {"clock", "database", "key"};

std::string_view kind_of(const Error& error) {
  if (error.reason == Reason::kStale) return "clock";
  return error.reason == Reason::kStorage || error.reason == Reason::kConflict ? "database" : "key";
}

}  // namespace

Metrics::Metrics()
    : answers_(prometheus::BuildCounter()
                   .Name("sallyport_witness_answers_total")
                   .Help("Answers, by call and HTTP status.")
                   .Register(registry_)),
      errors_(prometheus::BuildCounter()
                  .Name("sallyport_witness_errors_total")
                  .Help("Errors of the witness itself, which peers see as 503.")
                  .Register(registry_)),
      sizes_(prometheus::BuildGauge()
                 .Name("sallyport_witness_cosigned_size")
                 .Help("Leaves under the newest cosigned checkpoint of a log.")
                 .Register(registry_)),
      ages_(prometheus::BuildGauge()
                .Name("sallyport_witness_cosigned_age_seconds")
                .Help("Seconds since the newest cosignature for a log.")
                .Register(registry_)) {
  for (const std::string_view kind : kErrorKinds) errors_.Add({{"kind", std::string{kind}}});
}

void Metrics::answered(std::string_view call, unsigned status) {
  answers_.Add({{"call", std::string{call}}, {"status", std::to_string(status)}}).Increment();
}

void Metrics::failed(const Error& error) {
  errors_.Add({{"kind", std::string{kind_of(error)}}}).Increment();
}

std::string Metrics::text(Witness& witness) {
  // Without an answer of the memory the last sizes stay, and the error is counted.
  if (const auto logs = witness.list_cosigned())
    for (const Witness::Cosigned& log : *logs) {
      const prometheus::Labels labels{{"origin", log.origin.get()}};
      sizes_.Add(labels).Set(static_cast<double>(log.size.get()));
      ages_.Add(labels).Set(static_cast<double>(log.age.count()));
    }
  return prometheus::TextSerializer{}.Serializer::Serialize(registry_.Collect());
}

}  // namespace sallyport::witness
