#include "client/connection/ima.h"

#include "attestation/program/files.h"
#include "attestation/record/ima.h"

namespace sallyport::client {

bool wants_ima(const record::LoadedPolicy& policy) {
  return policy.references.ima.has_value();
}

Result<evidence::ImaList> read_ima_list(const Settings& settings) {
  const std::string& path = settings.ima_list;
  const auto missing = [](std::string what) {
    return Error{Code::kDenied, Reason::kImaMissing, std::move(what)};
  };
  if (path.empty() || path == "none")
    return missing("the policy wants this machine's IMA list, and ima_list is none");
  auto bytes = program::read_whole(path);
  if (!bytes.has_value()) return missing("the policy wants this machine's IMA list: cannot read " + path);
  if (bytes->empty()) return missing(path + " is empty: this machine's kernel measures nothing");
  return evidence::ImaList::parse(std::move(*bytes));
}

Result<std::vector<record::Blob>> quote_ima(tpm::Tpm& tpm, const Settings& settings,
                                            const Digest256& binding) {
  SP_TRY(const tpm::Quote quote, tpm.quote(record::ima_selection(), binding));
  SP_TRY(const evidence::ImaList list, read_ima_list(settings));
  return record::ima_evidence(quote.evidence, quote.pcrs.front(), list);
}

}  // namespace sallyport::client
