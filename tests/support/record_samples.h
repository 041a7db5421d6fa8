#pragma once

#include <functional>
#include <string>
#include <vector>

#include "attestation/crypto/private_key.h"
#include "attestation/record/batch.h"
#include "attestation/record/entry.h"
#include "attestation/record/statements.h"

namespace sallyport::test {

// One statement of each payload type with fixed contents: what tests/vectors/record holds as bytes. They are
// right in form and belong to one case each, but nothing in them was measured on a machine.
struct SampleStatement {
  std::string name;  // as in the payload type: "request"
  std::string type;  // the payload type
  Bytes payload;
  std::function<Result<Bytes>(ByteView)> again;  // parse, then encode
};
std::vector<SampleStatement> sample_statements();
const SampleStatement& sample_statement(std::string_view name);

record::Request sample_request();
record::DecisionStatement sample_decision();
record::QuoteEvidence sample_quote();
record::KeyEvidence sample_key();
record::Observation sample_observation();

// The evidence that a body of this kind has (README.md of attestation/record, "Evidence of each kind").
std::vector<record::Blob> sample_blobs(record::Kind kind);

// sample_envelope signs a statement with `key`, or leaves it unsigned where its kind is.
record::Envelope sample_envelope(const SampleStatement& statement, const crypto::PrivateKey& key);

// sample_entry makes an entry of a kind from its envelope and sample_blobs.
record::Entry sample_entry(record::Kind kind, ByteView envelope);

}  // namespace sallyport::test
