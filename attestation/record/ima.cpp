#include "attestation/record/ima.h"

#include <algorithm>
#include <set>

#include "attestation/crypto/digest.h"
#include "attestation/record/appraise.h"

namespace sallyport::record {

evidence::PcrSelection ima_selection() {
  const auto selection = evidence::PcrSelection::from_mask(1u << evidence::kImaPcr);
  SP_ASSERT(selection.has_value());
  return *selection;
}

Result<std::vector<Blob>> ima_evidence(const evidence::SignedAttest& made, const Digest256& pcr10,
                                       const evidence::ImaList& list) {
  const auto start = evidence::ImaPosition::start(evidence::LogAlgorithm::kSha256);
  SP_TRY(const evidence::ReplayedIma to_it, evidence::replay_ima_to(list, start, view(pcr10)));
  if (to_it.entries().empty())
    return Error{Code::kDenied, Reason::kImaMissing,
                 "nothing was measured: IMA is off, or has no policy, in this machine's kernel"};
  SP_TRY(const std::vector<ByteView> parts, evidence::cut_ima_list(list, to_it.entries().size()));
  ImaQuoteEvidence quote{made.attest, made.signature, pcr10.get(), {}};
  std::vector<Blob> out;
  for (const ByteView part : parts) {
    quote.parts.push_back(crypto::sha256(part));
    out.push_back({EvidenceType::kImaList, to_bytes(part)});
  }
  out.push_back({EvidenceType::kImaQuote, encode(quote)});
  return out;
}

Result<std::vector<evidence::ImaPart>> ima_parts(const ImaQuoteEvidence& quote, const Body& body,
                                                 const BlobIndex& blobs) {
  const std::vector<EvidenceItem> items = items_of_type(body, EvidenceType::kImaList);
  std::map<Digest256, ByteView> there;
  for (const EvidenceItem& item : items) {
    const Blob* blob = blobs.find(item);
    if (blob == nullptr)
      return Error{Code::kUnverified, Reason::kLogMissingBody, "a part of the IMA list is missing"};
    there.emplace(item.sha256, blob->bytes);
  }
  std::vector<evidence::ImaPart> parts;
  for (const Digest256& digest : quote.parts) {
    const auto found = there.find(digest);
    if (found == there.end())
      return Error{Code::kMalformed, Reason::kImaForm, "a part of the IMA list is not among the evidence"};
    parts.push_back({digest, found->second});
  }
  const std::set<Digest256> listed{quote.parts.begin(), quote.parts.end()};
  if (listed.size() != there.size())
    return Error{Code::kMalformed, Reason::kImaForm, "a part of an IMA list that the quote does not list"};
  return parts;
}

Result<std::optional<evidence::JudgedIma>> verify_machine_ima(const ControlState& control,
                                                              const LoadedPolicy& policy,
                                                              const Device& device,
                                                              const evidence::VerifiedQuote& quote,
                                                              const Digest256& binding, const Body& body,
                                                              const BlobIndex& blobs, DossierForm form) {
  const bool has_quote = !items_of_type(body, EvidenceType::kImaQuote).empty();
  const bool has_list = !items_of_type(body, EvidenceType::kImaList).empty();
  if (!policy.references.ima) {
    if (has_quote || has_list)
      return Error{Code::kMalformed, Reason::kImaForm, "an IMA list, which the policy does not want"};
    return std::optional<evidence::JudgedIma>{};
  }
  if (!has_quote || !has_list)
    return Error{Code::kDenied, Reason::kImaMissing,
                 "the policy wants the machine's IMA list, and none was sent"};
  if (form == DossierForm::kTravel) return std::optional<evidence::JudgedIma>{};
  SP_TRY(const Blob* blob, one_blob(body, blobs, EvidenceType::kImaQuote));
  SP_TRY(ImaQuoteEvidence claimed, parse_ima_quote_evidence(blob->bytes));
  SP_TRY(const std::vector<evidence::ImaPart> parts, ima_parts(claimed, body, blobs));
  const Digest256 pcr10{claimed.pcr10};
  SP_TRY(
      const evidence::VerifiedQuote of_list,
      evidence::verify_quote({std::move(claimed.attest), std::move(claimed.signature)},
                             device.attestation_key, binding, ima_selection(), {&pcr10, 1}, control.known()));
  SP_CHECK(evidence::check_same_start(quote, of_list));
  SP_TRY(evidence::JudgedIma accepted,
         evidence::appraise_ima_parts(parts, of_list, *policy.references.ima, control.judged_lists()));
  return std::optional{std::move(accepted)};
}

}  // namespace sallyport::record
