#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/ima.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::test {

// ImaLog measures files as a kernel does (template ima-ng), or as an attacker would like it to have done: the
// list that the kernel shows, and what it extends into the SHA-256 bank.
class ImaLog {
 public:
  bool padded = false;  // a kernel before 5.8: SHA-1, and zeros
  Bytes bytes;
  std::vector<Digest256> extended;

  // Every boot begins with the kernel's own entry.
  static ImaLog booted() { return ImaLog{}.file("boot_aggregate", "PCR 0 to 9"); }

  ImaLog& file(std::string_view path, std::string_view content) {
    const Bytes data = data_of(path, crypto::sha256(as_bytes(content)));
    extended.push_back(padded ? with_zeros(crypto::sha1(data)) : crypto::sha256(data));
    return put_entry(crypto::sha1(data), data);
  }
  ImaLog& violation(std::string_view path) {
    ByteArray<32> ones;
    ones.fill(0xFF);
    extended.push_back(Digest256{ones});
    return put_entry({}, data_of(path, {}));
  }
  // So many files of one distribution: "/usr/lib/PREFIX/0", …
  ImaLog& files(std::size_t count, const std::string& prefix = "x") {
    for (std::size_t i = 0; i < count; ++i)
      file("/usr/lib/" + prefix + "/" + std::to_string(i), prefix + std::to_string(i));
    return *this;
  }

  // allow_list expects all files that were measured so far.
  std::string allow_list() const {
    std::string out;
    const auto list = evidence::ImaList::parse(bytes);
    for (const evidence::ImaEntry& entry : list->entries())
      if (!entry.violation && entry.path != "boot_aggregate")
        out += "sha256:" + to_hex(entry.digest) + " " + std::string{entry.path} + "\n";
    return out;
  }

  // measure has a TPM measure it from the beginning: it has just been reset. more has one go on, with what
  // was not measured yet.
  void measure(SoftTpm& tpm) const { more(tpm, 0); }
  void more(SoftTpm& tpm, std::size_t from) const {
    for (std::size_t i = from; i < extended.size(); ++i) tpm.extend(evidence::kImaPcr, extended[i]);
    tpm.ima_list = bytes;
  }

 private:
  static Digest256 with_zeros(const ByteArray<20>& digest) {
    ByteArray<32> out{};
    std::copy(digest.begin(), digest.end(), out.begin());
    return Digest256{out};
  }
  static void put_field(Bytes& out, ByteView field) {
    for (int shift = 0; shift < 32; shift += 8)
      out.push_back(static_cast<std::uint8_t>(field.size() >> shift));
    out.insert(out.end(), field.begin(), field.end());
  }
  static Bytes data_of(std::string_view path, const Digest256& digest) {
    Bytes hashed = to_bytes(as_bytes("sha256:"));
    hashed.push_back(0);
    hashed.insert(hashed.end(), digest.get().begin(), digest.get().end());
    Bytes name = to_bytes(as_bytes(path));
    name.push_back(0);
    Bytes out;
    put_field(out, hashed);
    put_field(out, name);
    return out;
  }
  ImaLog& put_entry(const ByteArray<20>& digest, const Bytes& data) {
    bytes.insert(bytes.end(), {evidence::kImaPcr, 0, 0, 0});
    bytes.insert(bytes.end(), digest.begin(), digest.end());
    put_field(bytes, as_bytes("ima-ng"));
    put_field(bytes, data);
    return *this;
  }
};

}  // namespace sallyport::test
