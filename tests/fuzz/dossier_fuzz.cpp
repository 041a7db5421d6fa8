#include "attestation/record/dossier.h"

// What parses encodes back to the same bytes, and its travel form parses wherever it is within its cap.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const ByteView bytes{data, size};
  const auto dossier = record::parse_dossier(bytes);
  if (!dossier) return 0;
  SP_ASSERT(equal(record::encode_dossier(*dossier), bytes));
  const Bytes travel = record::encode_dossier(record::to_travel(*dossier));
  if (travel.size() <= record::kMaxTravelDossierBytes) {
    const auto again = record::parse_dossier(travel);
    SP_ASSERT(again.has_value() && again->form == record::DossierForm::kTravel);
  }
  return 0;
}
