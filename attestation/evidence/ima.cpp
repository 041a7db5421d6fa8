#include "attestation/evidence/ima.h"

#include <openssl/rsa.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "attestation/base/hex.h"
#include "attestation/base/reader.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/openssl_ptr.h"

namespace sallyport::evidence {
namespace {

constexpr std::size_t kMaxOldNameBytes = 255;  // IMA_EVENT_NAME_LEN_MAX
constexpr std::size_t kMaxTemplateName = 32;
constexpr std::string_view kBootAggregate = "boot_aggregate";

Error bad_list(std::string what) {
  return Error{Code::kMalformed, Reason::kImaForm, std::move(what)};
}
Error not_replayed(std::string what) {
  return Error{Code::kUnverified, Reason::kImaReplay, std::move(what)};
}
Error not_expected(std::string what) {
  return Error{Code::kUnverified, Reason::kImaUnexpected, std::move(what)};
}

// shown gives bytes of others for an error: printable ASCII, and no more than a line of it.
std::string shown(std::string_view text) {
  constexpr std::size_t kMost = 200;
  std::string out;
  for (const char c : text.substr(0, kMost)) {
    if (c >= 0x20 && c < 0x7F && c != '\\')
      out += c;
    else
      out += "\\x" + to_hex(as_bytes({&c, 1}));
  }
  return text.size() > kMost ? out + "…" : out;
}

// ImaDigest is a digest of any of the algorithms; zeros follow it.
struct ImaDigest {
  ByteArray<64> octets{};
  std::size_t size = 0;
  ByteView view() const { return ByteView{octets}.first(size); }
};

ImaDigest hash(LogAlgorithm algorithm, ByteView bytes) {
  ImaDigest out;
  const auto put = [&out](ByteView digest) {
    out.size = digest.size();
    std::memcpy(out.octets.data(), digest.data(), digest.size());
  };
  switch (algorithm) {
    case LogAlgorithm::kSha1:
      put(crypto::sha1(bytes));
      break;
    case LogAlgorithm::kSha256:
      put(crypto::sha256(bytes).get());
      break;
    case LogAlgorithm::kSha384:
      put(crypto::sha384(bytes));
      break;
    case LogAlgorithm::kSha512:
      put(crypto::sha512(bytes));
      break;
  }
  return out;
}

// template_digest is the hash of the data as it stands in the list; of the oldest template, the name is
// hashed in a field of 256 octets and without its length (ima_calc_field_array_hash_tfm).
ImaDigest template_digest(LogAlgorithm algorithm, const ImaEntry& entry) {
  if (entry.form != ImaTemplate::kIma) return hash(algorithm, entry.data);
  ByteArray<20 + kMaxOldNameBytes + 1> field{};
  std::memcpy(field.data(), entry.digest.data(), 20);
  std::memcpy(field.data() + 20, entry.path.data(), entry.path.size());
  return hash(algorithm, field);
}

std::optional<LogAlgorithm> find_algorithm(std::string_view name) {
  for (const LogAlgorithm one : kLogAlgorithms)
    if (log_algorithm_name(one) == name) return one;
  return std::nullopt;
}

std::optional<ImaTemplate> find_template(std::string_view name) {
  for (const ImaTemplate one : {ImaTemplate::kIma, ImaTemplate::kImaNg, ImaTemplate::kImaSig})
    if (ima_template_name(one) == name) return one;
  return std::nullopt;
}

Result<ByteView> read_field(Reader& in, std::size_t max) {
  SP_TRY(const std::uint32_t size, in.u32_le());
  if (size > max) return bad_list("a field of " + std::to_string(size) + " bytes");
  return in.raw(size);
}

std::string file_text(LogAlgorithm algorithm, ByteView digest, std::string_view path) {
  return log_algorithm_name(algorithm).append(":").append(as_text(digest)).append(path);
}

// enum hash_algo of the kernel's include/uapi/linux/hash_info.h.
std::optional<LogAlgorithm> find_kernel_hash(std::uint8_t number) {
  switch (number) {
    case 2:
      return LogAlgorithm::kSha1;
    case 4:
      return LogAlgorithm::kSha256;
    case 5:
      return LogAlgorithm::kSha384;
    case 6:
      return LogAlgorithm::kSha512;
  }
  return std::nullopt;
}

const EVP_MD* openssl_hash(LogAlgorithm algorithm) {
  switch (algorithm) {
    case LogAlgorithm::kSha1:
      return EVP_sha1();
    case LogAlgorithm::kSha256:
      return EVP_sha256();
    case LogAlgorithm::kSha384:
      return EVP_sha384();
    case LogAlgorithm::kSha512:
      return EVP_sha512();
  }
  assertion_failed("an algorithm of LogAlgorithm", __FILE__, __LINE__);
}

}  // namespace

std::string_view ima_template_name(ImaTemplate of) {
  switch (of) {
    case ImaTemplate::kIma:
      return "ima";
    case ImaTemplate::kImaNg:
      return "ima-ng";
    case ImaTemplate::kImaSig:
      return "ima-sig";
  }
  assertion_failed("a template of ImaTemplate", __FILE__, __LINE__);
}

std::string_view ima_extension_name(ImaExtension of) {
  switch (of) {
    case ImaExtension::kOwnHash:
      return "own hash";
    case ImaExtension::kPaddedSha1:
      return "padded SHA-1";
  }
  assertion_failed("an extension of ImaExtension", __FILE__, __LINE__);
}

// ImaListParser makes a list entry by entry, so that its errors get their entry's number in one place.
class ImaListParser {
 public:
  static Result<ImaList> run(Bytes bytes, LogAlgorithm own) {
    ImaListParser parser{own};
    parser.list_.bytes_ = std::move(bytes);
    SP_CHECK(parser.parse());
    return std::move(parser.list_);
  }

 private:
  explicit ImaListParser(LogAlgorithm own) : own_(own) {}

  Status parse() {
    if (list_.bytes_.size() > kMaxImaListBytes) return bad_list("list longer than 16 MiB");
    Reader in{list_.bytes_};
    while (in.remaining() != 0) {
      const std::size_t number = list_.entries_.size();
      if (number == kMaxImaEntries) return bad_list("list of more than 65536 entries");
      if (const Status read = read_entry(in); !read.has_value())
        return bad_list("entry " + std::to_string(number) + ": " + read.error().what);
    }
    return Done{};
  }

  Status read_entry(Reader& in) {
    ImaEntry entry;
    entry.number = static_cast<std::uint32_t>(list_.entries_.size());
    SP_TRY(const std::uint32_t pcr, in.u32_le());
    if (pcr != kImaPcr) return bad_list("PCR " + std::to_string(pcr));
    SP_TRY(const ByteView digest, in.raw(digest_size(own_)));
    entry.violation =
        std::all_of(digest.begin(), digest.end(), [](std::uint8_t octet) { return octet == 0; });
    SP_TRY(const ByteView name, read_field(in, kMaxTemplateName));
    const auto form = find_template(as_text(name));
    if (!form) return bad_list("template \"" + shown(as_text(name)) + "\"");
    entry.form = *form;
    if (entry.form == ImaTemplate::kIma) {
      SP_CHECK(read_old_data(in, entry));
    } else {
      SP_TRY(entry.data, read_field(in, kMaxImaDataBytes));
      SP_CHECK(read_data(entry));
    }
    if (!entry.violation && !equal(template_digest(own_, entry).view(), digest))
      return bad_list("its template digest is not that of its data");
    entry.end = list_.bytes_.size() - in.remaining();
    list_.entries_.push_back(entry);
    return Done{};
  }

  // "ima": a digest of 20 octets and a name with its length but without a NUL, and no length of both.
  static Status read_old_data(Reader& in, ImaEntry& entry) {
    const ByteView begin = in.rest();
    SP_TRY(entry.digest, in.raw(20));
    SP_TRY(const ByteView path, read_field(in, kMaxOldNameBytes));
    SP_CHECK(check_path(as_text(path)));
    entry.path = as_text(path);
    entry.data = begin.first(begin.size() - in.remaining());
    return Done{};
  }

  // "ima-ng" and "ima-sig": "ALGORITHM:" NUL digest, path NUL, and for the latter a signature or nothing.
  static Status read_data(ImaEntry& entry) {
    Reader in{entry.data};
    SP_TRY(const ByteView digest, read_field(in, kMaxImaDataBytes));
    const std::size_t colon = as_text(digest).find(':');
    if (colon == std::string_view::npos || colon + 1 >= digest.size() || digest[colon + 1] != 0)
      return bad_list("a file digest without its algorithm");
    const std::string_view algorithm = as_text(digest).substr(0, colon);
    const auto known = find_algorithm(algorithm);
    if (!known) return bad_list("a file digest of \"" + shown(algorithm) + "\"");
    entry.algorithm = *known;
    entry.digest = digest.subspan(colon + 2);
    // A violation has zeros for a digest, in some kernels as many as SHA-1 has octets.
    if (entry.digest.size() != digest_size(*known) && !(entry.violation && entry.digest.size() == 20))
      return bad_list("a file digest of " + std::to_string(entry.digest.size()) + " bytes");
    SP_TRY(const ByteView path, read_field(in, kMaxImaPathBytes + 1));
    if (path.empty() || path.back() != 0) return bad_list("a path without its end");
    entry.path = as_text(path.first(path.size() - 1));
    SP_CHECK(check_path(entry.path));
    if (entry.form == ImaTemplate::kImaSig) {
      SP_TRY(entry.signature, read_field(in, kMaxImaSignatureBytes));
    }
    return in.finish();
  }

  static Status check_path(std::string_view path) {
    if (path.empty()) return bad_list("an empty path");
    if (path.find('\0') != std::string_view::npos) return bad_list("a path with a NUL in it");
    return Done{};
  }

  ImaList list_;
  LogAlgorithm own_;
};

Result<ImaList> ImaList::parse(Bytes bytes, LogAlgorithm own) {
  return ImaListParser::run(std::move(bytes), own);
}

ImaPosition ImaPosition::start(LogAlgorithm bank) {
  ImaPosition out;
  out.bank = bank;
  if (bank == LogAlgorithm::kSha1) out.extension = ImaExtension::kOwnHash;
  return out;
}

// ImaReplay is the one place where PCR 10 is extended.
class ImaReplay {
 public:
  ImaReplay(const ImaPosition& from, ImaExtension extension)
      : from_(from), at_(from), extension_(extension) {}

  void extend(const ImaEntry& entry) {
    const std::size_t size = digest_size(at_.bank);
    const LogAlgorithm hashed = extension_ == ImaExtension::kOwnHash ? at_.bank : LogAlgorithm::kSha1;
    ImaDigest digest;
    if (entry.violation)
      std::fill_n(digest.octets.begin(), digest_size(hashed), std::uint8_t{0xFF});
    else
      digest = template_digest(hashed, entry);
    ByteArray<128> both;
    std::memcpy(both.data(), at_.aggregate.data(), size);
    std::memcpy(both.data() + size, digest.octets.data(), size);
    at_.aggregate = hash(at_.bank, ByteView{both}.first(2 * size)).octets;
    at_.offset = from_.offset + entry.end;
    at_.entries = from_.entries + entry.number + 1;
    at_.extension = extension_;
  }
  bool is_at(ByteView pcr10) const { return equal(at_.pcr10(), pcr10); }
  ReplayedIma done(std::span<const ImaEntry> entries) const { return {from_, entries, at_}; }

 private:
  ImaPosition from_, at_;
  ImaExtension extension_;
};

Result<ReplayedIma> replay_ima(const ImaList& list, const ImaPosition& from, ImaExtension extension) {
  if (from.extension.value_or(extension) != extension)
    return not_replayed("the entries before were extended in another way");
  ImaReplay replay{from, extension};
  for (const ImaEntry& entry : list.entries()) replay.extend(entry);
  return replay.done(list.entries());
}

Result<ReplayedIma> replay_ima_to(const ImaList& list, const ImaPosition& from, ByteView pcr10) {
  if (pcr10.size() != digest_size(from.bank)) return not_replayed("PCR 10 of another size than the bank's");
  std::vector<ImaReplay> ways;
  for (const ImaExtension one : {ImaExtension::kOwnHash, ImaExtension::kPaddedSha1})
    if (from.extension.value_or(one) == one) ways.emplace_back(from, one);
  // No entry may have come since.
  if (ways.front().is_at(pcr10)) return ways.front().done({});
  for (const ImaEntry& entry : list.entries()) {
    for (ImaReplay& way : ways) {
      way.extend(entry);
      if (way.is_at(pcr10)) return way.done(list.entries().first(entry.number + 1));
    }
  }
  return not_replayed("none of " + std::to_string(list.entries().size()) +
                      " entries comes to the value of PCR 10");
}

std::optional<Digest256> quoted_pcr10(const VerifiedQuote& quote) {
  const std::vector<std::uint8_t> quoted = quote.selection().indices();
  const auto found = std::find(quoted.begin(), quoted.end(), kImaPcr);
  if (found == quoted.end() || quote.pcr_values().size() != quoted.size()) return std::nullopt;
  return quote.pcr_values()[static_cast<std::size_t>(found - quoted.begin())];
}

Result<ReplayedIma> verify_ima_list(const ImaList& list, const ImaPosition& from,
                                    const VerifiedQuote& quote) {
  if (from.bank != LogAlgorithm::kSha256) return not_replayed("quotes are of the SHA-256 bank");
  const auto pcr10 = quoted_pcr10(quote);
  if (!pcr10) return not_replayed("the quote comes without the value of PCR 10");
  return replay_ima_to(list, from, view(*pcr10));
}

Result<ImaAllowList> ImaAllowList::parse(std::string_view text) {
  if (text.size() > kMaxBytes) return bad_list("allow list longer than 32 MiB");
  ImaAllowList out;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto bad_line = [number](const char* what) {
      return bad_list("line " + std::to_string(number) + " of the allow list: " + what);
    };
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return bad_line("it does not end");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const std::size_t colon = line.find(':'), space = line.find(' ');
    if (colon == std::string_view::npos || space == std::string_view::npos || colon > space)
      return bad_line("not ALGORITHM:DIGEST PATH");
    const auto algorithm = find_algorithm(line.substr(0, colon));
    if (!algorithm || *algorithm == LogAlgorithm::kSha1) return bad_line("neither sha256, sha384 nor sha512");
    const auto digest = parse_hex(line.substr(colon + 1, space - colon - 1), 64);
    if (!digest.has_value() || digest->size() != digest_size(*algorithm))
      return bad_line("a digest that is not of its algorithm");
    const std::string_view path = line.substr(space + 1);
    if (path.empty() || path.size() > kMaxImaPathBytes || path.find('\0') != std::string_view::npos)
      return bad_line("not a path");
    if (out.files_.size() == kMaxFiles) return bad_list("allow list of more than 200000 files");
    if (!out.files_.insert(file_text(*algorithm, *digest, path)).second)
      return bad_line("it stands there already");
  }
  return out;
}

bool ImaAllowList::allows(const ImaEntry& entry) const {
  return entry.algorithm != LogAlgorithm::kSha1 &&
         files_.contains(file_text(entry.algorithm, entry.digest, entry.path));
}

Status ImaKeys::add(const crypto::PublicKey& key) {
  if (key.algorithm() == crypto::KeyAlgorithm::kEd25519)
    return Error{Code::kMalformed, "Ed25519 signs no files of IMA"};
  std::uint8_t* der = nullptr;
  const int size = i2d_PublicKey(key.pkey(), &der);
  if (size <= 0) return Error{Code::kInternal, "public key: " + crypto::drain_openssl_errors()};
  const ByteArray<20> identifier = crypto::sha1({der, static_cast<std::size_t>(size)});
  OPENSSL_free(der);
  Reader in{ByteView{identifier}.last(4)};
  SP_TRY(const std::uint32_t id, in.u32());
  const auto [at, added] = keys_.emplace(id, key);
  if (!added && !(at->second == key)) return Error{Code::kMalformed, "two keys of one id"};
  return Done{};
}

Status ImaKeys::verify(const ImaEntry& entry) const {
  if (entry.signature.empty()) return not_expected("it has no signature");
  Reader in{entry.signature};
  const auto kind = in.u8(), version = in.u8(), algorithm = in.u8();
  const auto id = in.u32();
  const auto size = in.u16();
  constexpr std::uint8_t kDigitalSignature = 3;  // EVM_IMA_XATTR_DIGSIG
  // The last read succeeded: then all did.
  if (!size.has_value() || *kind != kDigitalSignature || *version != 2 || *size != in.remaining() ||
      in.remaining() == 0)
    return not_expected("its signature is of another form");
  const auto hashed = find_kernel_hash(*algorithm);
  if (!hashed || *hashed != entry.algorithm || *hashed == LogAlgorithm::kSha1)
    return not_expected("its signature is of another algorithm");
  const auto found = keys_.find(*id);
  if (found == keys_.end()) return not_expected("its signature is of another key");
  const crypto::PublicKey& key = found->second;
  const crypto::PkeyCtxPtr ctx{EVP_PKEY_CTX_new(key.pkey(), nullptr)};
  const bool rsa = key.algorithm() == crypto::KeyAlgorithm::kRsa2048;
  if (!ctx || EVP_PKEY_verify_init(ctx.get()) != 1 ||
      (rsa && EVP_PKEY_CTX_set_rsa_padding(ctx.get(), RSA_PKCS1_PADDING) != 1) ||
      EVP_PKEY_CTX_set_signature_md(ctx.get(), openssl_hash(*hashed)) != 1)
    return Error{Code::kInternal, "signature of a file: " + crypto::drain_openssl_errors()};
  const ByteView signature = in.rest();
  if (EVP_PKEY_verify(ctx.get(), signature.data(), signature.size(), entry.digest.data(),
                      entry.digest.size()) != 1) {
    crypto::drain_openssl_errors();
    return not_expected("its signature does not verify");
  }
  return Done{};
}

namespace {

// SignedFiles are digests and signatures that were verified: of a file that is measured again, at another
// path or by root who fills a list with it, the signature is not verified again.
using SignedFiles = std::set<std::tuple<LogAlgorithm, std::string_view, std::string_view>>;

// why_expected gives the count that an entry belongs to (null: the kernel's own), or why it is not expected.
Result<std::uint64_t ImaTally::*> why_expected(const ImaEntry& entry, std::uint64_t number,
                                               const ImaRules& rules, SignedFiles& verified) {
  if (entry.violation) {
    // Its path may be anything, so that no list can allow it.
    if (rules.violations_allowed) return &ImaTally::violations;
    return not_expected("a violation: the file was written while it was measured");
  }
  if (number == 0 && entry.path == kBootAggregate) return static_cast<std::uint64_t ImaTally::*>(nullptr);
  if (rules.allowed.allows(entry)) return &ImaTally::listed;
  const SignedFiles::value_type file{entry.algorithm, as_text(entry.digest), as_text(entry.signature)};
  if (verified.contains(file)) return &ImaTally::signed_files;
  if (const Status signed_by = rules.keys.verify(entry); !signed_by.has_value())
    return not_expected("it is not in the allow list, and " + signed_by.error().what);
  verified.insert(file);
  return &ImaTally::signed_files;
}

// judge_entries counts those before the first that is not expected into `tally`.
std::optional<UnexpectedImaEntry> judge_entries(const ReplayedIma& replayed, const ImaRules& rules,
                                                ImaTally& tally) {
  SignedFiles verified;
  for (const ImaEntry& entry : replayed.entries()) {
    const std::uint64_t number = replayed.from().entries + entry.number;
    const auto expected = why_expected(entry, number, rules, verified);
    if (!expected.has_value()) return UnexpectedImaEntry{number, &entry, expected.error().what};
    if (*expected != nullptr) ++(tally.**expected);
  }
  return std::nullopt;
}

}  // namespace

ImaTally& ImaTally::operator+=(const ImaTally& more) {
  listed += more.listed;
  signed_files += more.signed_files;
  violations += more.violations;
  return *this;
}

std::optional<UnexpectedImaEntry> find_unexpected_ima(const ReplayedIma& replayed, const ImaRules& rules) {
  ImaTally ignored;
  return judge_entries(replayed, rules, ignored);
}

Result<ImaTally> appraise_ima(const ReplayedIma& replayed, const ImaRules& rules) {
  ImaTally tally;
  const auto found = judge_entries(replayed, rules, tally);
  if (!found) return tally;
  return not_expected("entry " + std::to_string(found->number) + ", " + shown(found->entry->path) + " (" +
                      log_algorithm_name(found->entry->algorithm) + ":" + to_hex(found->entry->digest) +
                      "): " + found->why);
}

}  // namespace sallyport::evidence
