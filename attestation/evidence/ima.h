#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/crypto/public_key.h"
#include "attestation/evidence/event_log.h"
#include "attestation/evidence/quote.h"

namespace sallyport::evidence {

// 65 536 entries of the ordinary 100 to 250 bytes are 6 to 16 MiB. A longer list comes in steps.
inline constexpr std::size_t kMaxImaListBytes = 16 * 1024 * 1024;
inline constexpr std::size_t kMaxImaEntries = 65536;        // of one step
inline constexpr std::size_t kMaxImaDataBytes = 64 * 1024;  // template data of one entry
inline constexpr std::size_t kMaxImaPathBytes = 4096;       // PATH_MAX
inline constexpr std::size_t kMaxImaSignatureBytes = 1024;
inline constexpr std::uint8_t kImaPcr = 10;

enum class ImaTemplate : std::uint8_t { kIma, kImaNg, kImaSig };
std::string_view ima_template_name(ImaTemplate of);  // "ima", "ima-ng", "ima-sig"

// ImaEntry is one measurement as a list claims it. Its views are into the list.
struct ImaEntry {
  std::uint32_t number = 0;  // its place in the part of the list that was parsed, from 0
  ImaTemplate form = ImaTemplate::kImaNg;
  // A violation: the kernel could not measure the file, since it was open for writing or changed meanwhile.
  // It extends FF…, so that of its path and digest nothing is ever known.
  bool violation = false;
  LogAlgorithm algorithm = LogAlgorithm::kSha1;  // of the file's digest
  ByteView digest;
  std::string_view path;  // as the kernel wrote it: any bytes but NUL; escape it before it is shown
  ByteView signature;     // security.ima, with its header; empty: the file has none
  ByteView data;          // what the template digest is of; for kIma without the padding of the name
  std::size_t end = 0;    // where the next entry begins, from the beginning of the part
};

// ImaList is a part of the kernel's binary_runtime_measurements, from one entry to another; the whole list is
// one too. It owns its bytes, and can be moved but not copied, since its entries are views into them.
class ImaList {
 public:
  // parse checks the form (Linux, security/integrity/ima/ima_fs.c, ima_measurements_show): integers are
  // little-endian, whole entries to the last byte, at most kMaxImaEntries and kMaxImaListBytes; each of PCR
  // 10, of a template of ImaTemplate, its file digest of a LogAlgorithm; path and signature within their
  // caps; and its template digest is that of its data, or zero, which is a violation. No entry is a list too:
  // nothing was measured since the last part. `own` is the algorithm of the template digests: SHA-1, but for
  // the binary_runtime_measurements_sha256 of newer kernels.
  //   Proves:         nothing about the machine: whoever sends a list wrote it as he liked (verify_ima_list).
  //   Errors:         kMalformed (kImaForm), with the number of the entry.   Pure; one hash an entry.
  static Result<ImaList> parse(Bytes bytes, LogAlgorithm own = LogAlgorithm::kSha1);

  ImaList(ImaList&&) noexcept = default;
  ImaList& operator=(ImaList&&) noexcept = default;
  ImaList(const ImaList&) = delete;
  ImaList& operator=(const ImaList&) = delete;

  ByteView bytes() const { return bytes_; }
  std::span<const ImaEntry> entries() const { return entries_; }

 private:
  friend class ImaListParser;
  ImaList() = default;
  Bytes bytes_;
  std::vector<ImaEntry> entries_;
};

// ImaExtension is how a kernel extends a bank: with the bank's own hash of the template data (Linux 5.8 and
// later), or with the SHA-1 hash and zeros after it (before). For the SHA-1 bank both are the same and called
// kOwnHash. What was extended by kPaddedSha1 rests on SHA-1, of which collisions can be made.
enum class ImaExtension : std::uint8_t { kOwnHash, kPaddedSha1 };
std::string_view ima_extension_name(ImaExtension of);  // "own hash", "padded SHA-1"

// ImaPosition is how far a list has been accepted in one boot, and where its next part begins.
struct ImaPosition {
  LogAlgorithm bank = LogAlgorithm::kSha256;
  std::uint64_t offset = 0;  // bytes from the beginning of the whole list
  std::uint64_t entries = 0;
  std::optional<ImaExtension> extension;  // absent: there was no entry yet, and both are tried
  ByteArray<64> aggregate{};              // PCR 10 there; the first digest_size(bank) bytes

  static ImaPosition start(LogAlgorithm bank);  // of a boot: PCR 10 is zero
  ByteView pcr10() const { return ByteView{aggregate}.first(digest_size(bank)); }
  friend bool operator==(const ImaPosition&, const ImaPosition&) = default;
};

// ReplayedIma is the part of a list that comes to a value of PCR 10. Its entries are views into the list.
class ReplayedIma {
 public:
  std::span<const ImaEntry> entries() const { return entries_; }  // without those after the value
  const ImaPosition& from() const { return from_; }
  const ImaPosition& position() const {
    return position_;
  }  // after the last of them: keep it for the next part

 private:
  friend class ImaReplay;
  ReplayedIma(const ImaPosition& from, std::span<const ImaEntry> entries, const ImaPosition& position)
      : entries_(entries), from_(from), position_(position) {}
  std::span<const ImaEntry> entries_;
  ImaPosition from_, position_;
};

// replay_ima extends a whole part of a list, as `extension` says.
//   Does not prove: that a TPM has this value (verify_ima_list).
//   Errors:         kUnverified (kImaReplay): `from` was extended in another way.   Pure; two hashes an
//   entry.
Result<ReplayedIma> replay_ima(const ImaList& list, const ImaPosition& from, ImaExtension extension);

// replay_ima_to extends entries until PCR 10 is `pcr10`, and stops there: a list is read after the quote was
// made, and the kernel measures on. `list` begins where `from` is.
//   Does not prove: that a TPM has this value, or that `from` is of the same boot.
//   Errors:         kUnverified (kImaReplay): no entry comes to it, or it is of another size than the
//   bank's.   Pure; at most four hashes an entry.
Result<ReplayedIma> replay_ima_to(const ImaList& list, const ImaPosition& from, ByteView pcr10);

// quoted_pcr10 gives the value of PCR 10, if a quote comes with it.
std::optional<Digest256> quoted_pcr10(const VerifiedQuote& quote);

// verify_ima_list replays a list to the PCR 10 of a quote, in the SHA-256 bank.
//   Proves:         since `from`, exactly these measurements were extended into PCR 10, in their order; of
//   entries that are no violations every field. Does not prove: that `from` is of the boot of the quote (the
//   caller compares its counters with those of the quote by which `from` was accepted); that the files are
//   good ones (appraise_ima); that the kernel measures what it should, which is a matter of its policy and of
//   how it was booted. Resting on SHA-1: position().extension.
//   Errors:         kUnverified (kImaReplay): the quote has no PCR 10, or no values, or no entry comes to it.
//   Pure.
Result<ReplayedIma> verify_ima_list(const ImaList& list, const ImaPosition& from, const VerifiedQuote& quote);

// ImaAllowList is a set of files that may be measured, each by path and digest: one path can have several.
class ImaAllowList {
 public:
  static constexpr std::size_t kMaxBytes = 32 * 1024 * 1024;
  static constexpr std::size_t kMaxFiles = 200'000;

  // parse reads lines "sha256:HEX PATH" (or sha384, sha512; the path is the rest of the line), in any order,
  // none twice. SHA-1 is refused: other files of the same digest can be made.
  // Errors: kMalformed (kImaForm), with the number of the line.
  static Result<ImaAllowList> parse(std::string_view text);

  bool allows(const ImaEntry& entry) const;
  std::size_t size() const { return files_.size(); }

 private:
  std::set<std::string> files_;  // ALGORITHM ':' digest path: of one algorithm all digests are of one size
};

// ImaKeys are the keys whose signatures on files are accepted (P-256, P-384 or RSA-2048), by key id.
class ImaKeys {
 public:
  // add takes a key under the id that `evmctl ima_sign` puts into signatures: the last four octets of the
  // subject key identifier, which are those of SHA-1 over the public key (RFC 5280 §4.2.1.2, method 1).
  // Errors: kMalformed (an Ed25519 key; another key of the same id).
  Status add(const crypto::PublicKey& key);

  // verify checks an entry's signature of format 2 (Linux, security/integrity/integrity.h, signature_v2_hdr)
  // over its file digest: RSA PKCS #1 v1.5, or ECDSA.
  //   Proves:         the holder of one of the keys signed a file of this digest. Does not prove: where that
  //   file belongs: any signed file at any path passes.
  //   Errors:         kUnverified (kImaUnexpected): no signature, of another form, of an unknown key, with
  //   SHA-1 or with another algorithm than the digest's, or it does not verify.   Pure; one signature check.
  Status verify(const ImaEntry& entry) const;

 private:
  std::map<std::uint32_t, crypto::PublicKey> keys_;
};

// ImaRules say which measurements are expected: those of the list, and those with a signature of the keys.
struct ImaRules {
  ImaAllowList allowed;
  ImaKeys keys;
  bool violations_allowed = false;
};

struct UnexpectedImaEntry {
  std::uint64_t number = 0;  // in the list of the whole boot, from 0
  const ImaEntry* entry = nullptr;
  std::string why;
};

// find_unexpected_ima finds the first entry that the rules do not expect. The first entry of a boot is the
// kernel's own boot_aggregate, of PCRs that the quote has by itself: it is expected.
std::optional<UnexpectedImaEntry> find_unexpected_ima(const ReplayedIma& replayed, const ImaRules& rules);

// ImaTally counts what was measured by why it was expected. (The kernel's boot_aggregate is in none of them.)
struct ImaTally {
  std::uint64_t listed = 0, signed_files = 0, violations = 0;
  ImaTally& operator+=(const ImaTally& more);
  friend bool operator==(const ImaTally&, const ImaTally&) = default;
};

// appraise_ima: each entry is expected. It says as much as verify_ima_list did for `replayed`, and no more.
// Errors: kUnverified (kImaUnexpected), with number, path and reason of the first that is not.   Pure; at
// most one signature check for each digest and signature.
Result<ImaTally> appraise_ima(const ReplayedIma& replayed, const ImaRules& rules);

}  // namespace sallyport::evidence
