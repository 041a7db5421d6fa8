#pragma once

#include <string>
#include <vector>

#include "attestation/evidence/endorsement.h"
#include "attestation/record/canonical_json.h"

namespace sallyport::client::evidence_tools {

// is_pem tells whether a file has a PEM block.
bool is_pem(ByteView bytes);

// certificates_of gives the certificates of a PEM file. Errors: kFile, with the path.
Result<std::vector<crypto::Certificate>> certificates_of(const std::string& path, ByteView pem);

// as_read_of gives what read_ek_certificate takes: the one certificate of a PEM file, or the file's bytes.
// Errors: kFile.
Result<Bytes> as_read_of(const std::string& path, Bytes bytes);

// An EK certificate as the commands of this room show it, on stdout or as members of their JSON
// (README.md, "JSON"): what it says, whoever signed it.
void print_ek(const evidence::ClaimedEkCertificate& ek);
std::vector<record::json::Member> ek_members(const evidence::ClaimedEkCertificate& ek);

}  // namespace sallyport::client::evidence_tools
