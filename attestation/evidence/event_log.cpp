#include "attestation/evidence/event_log.h"

#include <algorithm>
#include <cstring>

#include "attestation/base/hex.h"
#include "attestation/base/reader.h"
#include "attestation/crypto/digest.h"

namespace sallyport::evidence {
namespace {

constexpr std::string_view kSpecId00{"Spec ID Event00\0", 16};
constexpr std::string_view kSpecId02{"Spec ID Event02\0", 16};
constexpr std::string_view kSpecId03{"Spec ID Event03\0", 16};
constexpr std::string_view kSpecIdAny{"Spec ID Event"};
constexpr std::string_view kStartupLocality{"StartupLocality\0", 16};
constexpr std::size_t kMaxDigestBytes = 64;
constexpr std::uint8_t kHcrtmLocality = 4;

struct AlgorithmRow {
  std::uint16_t id;
  std::uint16_t digest_bytes;
  std::string_view name;
};
// TPM_ALG_ID of the TCG Algorithm Registry. The first four are kLogAlgorithms.
constexpr AlgorithmRow kAlgorithms[] = {
    {0x0004, 20, "sha1"},    {0x000B, 32, "sha256"},   {0x000C, 48, "sha384"},   {0x000D, 64, "sha512"},
    {0x0012, 32, "sm3_256"}, {0x0027, 32, "sha3_256"}, {0x0028, 48, "sha3_384"}, {0x0029, 64, "sha3_512"}};

const AlgorithmRow* find_row(std::uint16_t id) {
  for (const AlgorithmRow& row : kAlgorithms)
    if (row.id == id) return &row;
  return nullptr;
}

std::size_t place_of(LogAlgorithm bank) {
  switch (bank) {
    case LogAlgorithm::kSha1:
      return 0;
    case LogAlgorithm::kSha256:
      return 1;
    case LogAlgorithm::kSha384:
      return 2;
    case LogAlgorithm::kSha512:
      return 3;
  }
  assertion_failed("a bank of LogAlgorithm", __FILE__, __LINE__);
}

// number_text gives 0x and the number's octets.
template <std::size_t N>
std::string number_text(std::uint32_t number) {
  ByteArray<N> octets;
  for (std::size_t i = 0; i < N; ++i) octets[i] = static_cast<std::uint8_t>(number >> 8 * (N - 1 - i));
  return "0x" + to_hex(ByteView{octets});
}

// padding_start is where the run of octets 0x00 or 0xFF begins that reaches to the end. It is looked for
// once: looking from each event takes quadratic time.
std::size_t padding_start(ByteView bytes) {
  if (bytes.empty() || (bytes.back() != 0x00 && bytes.back() != 0xFF)) return bytes.size();
  std::size_t start = bytes.size();
  while (start > 0 && bytes[start - 1] == bytes.back()) --start;
  return start;
}

bool all_zero(ByteView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t octet) { return octet == 0; });
}

Error refused(std::string what) {
  return Error{Code::kMalformed, Reason::kEventLogForm, std::move(what)};
}

std::string place_text(const LogEvent& event) {
  return "event " + std::to_string(event.number) + " (" + event_type_name(event.type) + ", PCR " +
         std::to_string(event.pcr) + ")";
}

}  // namespace

std::optional<LogAlgorithm> find_log_algorithm(std::uint16_t tpm_alg_id) {
  for (const LogAlgorithm bank : kLogAlgorithms)
    if (static_cast<std::uint16_t>(bank) == tpm_alg_id) return bank;
  return std::nullopt;
}

std::string log_algorithm_name(std::uint16_t tpm_alg_id) {
  const AlgorithmRow* row = find_row(tpm_alg_id);
  return row != nullptr ? std::string{row->name} : number_text<2>(tpm_alg_id);
}

std::size_t digest_size(LogAlgorithm bank) {
  return kAlgorithms[place_of(bank)].digest_bytes;
}

std::optional<EventType> find_event_type(std::uint32_t type) {
  switch (type) {
#define SP_EVENT_TYPE_CASE(enumerator, value, name) \
  case value:                                       \
    return EventType::enumerator;
    SP_EVENT_TYPES(SP_EVENT_TYPE_CASE)
#undef SP_EVENT_TYPE_CASE
  }
  return std::nullopt;
}

std::string event_type_name(std::uint32_t type) {
  switch (type) {
#define SP_EVENT_TYPE_NAME(enumerator, value, name) \
  case value:                                       \
    return name;
    SP_EVENT_TYPES(SP_EVENT_TYPE_NAME)
#undef SP_EVENT_TYPE_NAME
  }
  return number_text<4>(type);
}

std::optional<ByteView> LogEvent::digest(LogAlgorithm bank) const {
  const ByteView found = digests_[place_of(bank)];
  return found.empty() ? std::nullopt : std::optional{found};
}

bool EventLog::has_bank(LogAlgorithm bank) const {
  return std::any_of(banks_.begin(), banks_.end(), [bank](const LogBank& one) {
    return one.algorithm == static_cast<std::uint16_t>(bank);
  });
}

// EventLogParser makes a log event by event, so that its errors get their event's number in one place.
class EventLogParser {
 public:
  static Result<EventLog> run(Bytes bytes) {
    EventLogParser parser;
    parser.log_.bytes_ = std::move(bytes);
    SP_CHECK(parser.parse());
    return std::move(parser.log_);
  }

 private:
  Status parse() {
    const ByteView bytes = log_.bytes_;
    if (bytes.size() > kMaxEventLogBytes) return refused("event log longer than 1 MiB");
    const std::size_t padding = padding_start(bytes);
    Reader in{bytes};
    while (in.remaining() != 0 && bytes.size() - in.remaining() < padding) {
      const std::size_t number = log_.events_.size();
      if (number == kMaxEvents) return refused("event log of more than 65536 events");
      if (const Status read = read_event(in); !read.has_value())
        return refused("event " + std::to_string(number) + ": " + read.error().what);
    }
    log_.padding_bytes_ = in.remaining();
    if (log_.events_.empty()) return refused("event log without an event");
    return Done{};
  }

  Status read_event(Reader& in) {
    const ByteView before = in.rest();
    LogEvent event;
    event.number = static_cast<std::uint32_t>(log_.events_.size());
    SP_TRY(event.pcr, in.u32_le());
    SP_TRY(event.type, in.u32_le());
    if (event.pcr > 23 && !(event.pcr == kNoPcr && !event.extends()))
      return refused("PCR " + std::to_string(event.pcr) + " of " + event_type_name(event.type));
    if (log_.crypto_agile_) {
      SP_CHECK(read_digests(in, event));
    } else {
      SP_TRY(event.digests_[0], in.raw(digest_size(LogAlgorithm::kSha1)));
    }
    SP_TRY(const std::uint32_t size, in.u32_le());
    if (size > in.remaining())
      return refused("data of " + std::to_string(size) + " bytes, where " + std::to_string(in.remaining()) +
                     " are left");
    SP_TRY(event.data, in.raw(size));
    // It would be an event here and padding at the end.
    if (all_zero(before.first(before.size() - in.remaining()))) return refused("nothing but zeros");
    if (event.number == 0) {
      SP_CHECK(begin(event));
    } else if (!event.extends() && as_text(event.data).starts_with(kSpecId03)) {
      return refused("a second Spec ID event");
    }
    SP_CHECK(look_at_pcr0(event));
    log_.events_.push_back(event);
    return Done{};
  }

  // As many digests as the log has algorithms, or fewer: real firmware leaves banks out of single events, and
  // whoever replays such a bank is told. Each algorithm once.
  Status read_digests(Reader& in, LogEvent& event) {
    SP_TRY(const std::uint32_t count, in.u32_le());
    if (count > log_.banks_.size())
      return refused(std::to_string(count) + " digests, where the log names " +
                     std::to_string(log_.banks_.size()) + " algorithms");
    std::uint32_t seen = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      SP_TRY(const std::uint16_t algorithm, in.u16_le());
      const auto bank = std::find_if(log_.banks_.begin(), log_.banks_.end(),
                                     [&](const LogBank& one) { return one.algorithm == algorithm; });
      if (bank == log_.banks_.end())
        return refused("a digest of " + log_algorithm_name(algorithm) + ", which the log does not name");
      const std::uint32_t bit = std::uint32_t{1} << (bank - log_.banks_.begin());
      if ((seen & bit) != 0) return refused("two digests of " + log_algorithm_name(algorithm));
      seen |= bit;
      SP_TRY(const ByteView digest, in.raw(bank->digest_bytes));
      if (const auto known = find_log_algorithm(algorithm)) event.digests_[place_of(*known)] = digest;
    }
    return Done{};
  }

  // begin decides by the first event what log this is. It has the form of SHA-1 logs in both.
  Status begin(const LogEvent& first) {
    const std::string_view data = as_text(first.data);
    if (!data.starts_with(kSpecId03)) {
      // Most SHA-1 logs begin without a Spec ID event, and some with one of TCG's older profiles.
      if (data.starts_with(kSpecIdAny) && !data.starts_with(kSpecId00) && !data.starts_with(kSpecId02))
        return refused("a Spec ID event of an unknown version");
      log_.banks_ = {{static_cast<std::uint16_t>(LogAlgorithm::kSha1), 20}};
      return Done{};
    }
    if (first.extends()) return refused("a Spec ID event of type " + event_type_name(first.type));
    if (first.pcr != 0) return refused("a Spec ID event of another PCR than 0");
    // Its digest is not looked at: nothing is extended by it, and real firmware has left rubbish there.
    SP_CHECK(read_spec_id(first.data.subspan(kSpecId03.size())));
    log_.crypto_agile_ = true;
    return Done{};
  }

  // TCG_EfiSpecIDEvent. The errata octet says nothing about the form.
  Status read_spec_id(ByteView bytes) {
    Reader in{bytes};
    SP_TRY(const std::uint32_t platform_class, in.u32_le());
    if (platform_class > 1) return refused("a Spec ID event of another platform than client or server");
    SP_TRY(const std::uint8_t minor, in.u8());
    SP_TRY(const std::uint8_t major, in.u8());
    if (major != 2 || minor != 0)
      return refused("a Spec ID event of version " + std::to_string(major) + "." + std::to_string(minor));
    SP_TRY([[maybe_unused]] const std::uint8_t errata, in.u8());
    SP_TRY(const std::uint8_t uintn, in.u8());
    if (uintn != 1 && uintn != 2) return refused("a Spec ID event of neither 32 nor 64 bit");
    SP_TRY(const std::uint32_t count, in.u32_le());
    if (count == 0 || count > kMaxLogAlgorithms)
      return refused("a Spec ID event of " + std::to_string(count) + " algorithms");
    for (std::uint32_t i = 0; i < count; ++i) {
      LogBank bank;
      SP_TRY(bank.algorithm, in.u16_le());
      SP_TRY(bank.digest_bytes, in.u16_le());
      const AlgorithmRow* row = find_row(bank.algorithm);
      if (row != nullptr ? bank.digest_bytes != row->digest_bytes
                         : bank.digest_bytes == 0 || bank.digest_bytes > kMaxDigestBytes)
        return refused("a Spec ID event with " + log_algorithm_name(bank.algorithm) + " of " +
                       std::to_string(bank.digest_bytes) + " bytes");
      for (const LogBank& before : log_.banks_)
        if (before.algorithm == bank.algorithm)
          return refused("a Spec ID event that names " + log_algorithm_name(bank.algorithm) + " twice");
      log_.banks_.push_back(bank);
    }
    SP_TRY(const std::uint8_t vendor_bytes, in.u8());
    if (in.remaining() != vendor_bytes)
      return refused("a Spec ID event of " + std::to_string(vendor_bytes) +
                     " bytes of vendor information with " + std::to_string(in.remaining()));
    return Done{};
  }

  // What sets PCR 0's start must stand before anything is extended, and once.
  Status look_at_pcr0(const LogEvent& event) {
    if (event.is(EventType::kEfiHcrtmEvent)) {
      if (event.pcr != 0 || pcr0_extended_) return refused("an H-CRTM event that is not the first of PCR 0");
      if (log_.startup_locality_.value_or(kHcrtmLocality) != kHcrtmLocality)
        return refused("an H-CRTM event after a StartupLocality of " +
                       std::to_string(*log_.startup_locality_));
      log_.hcrtm_ = true;
    } else if (!event.extends() && as_text(event.data).starts_with(kStartupLocality)) {
      if (log_.startup_locality_) return refused("a second StartupLocality event");
      if (event.pcr != 0 || pcr0_extended_)
        return refused("a StartupLocality event that is not before all others of PCR 0");
      if (event.data.size() <= kStartupLocality.size()) return refused("a StartupLocality event without one");
      const std::uint8_t locality = event.data[kStartupLocality.size()];
      if (locality != 0 && locality != 3 && locality != kHcrtmLocality)
        return refused("a StartupLocality of " + std::to_string(locality));
      // coreboot pads the structure.
      if (!all_zero(event.data.subspan(kStartupLocality.size() + 1)))
        return refused("a StartupLocality event with more after it");
      log_.startup_locality_ = locality;
    }
    if (event.extends() && event.pcr == 0) pcr0_extended_ = true;
    return Done{};
  }

  EventLog log_;
  bool pcr0_extended_ = false;
};

Result<EventLog> EventLog::parse(Bytes bytes) {
  return EventLogParser::run(std::move(bytes));
}

std::optional<ByteView> ReplayedPcrs::find(std::uint32_t pcr) const {
  if (pcr >= values_.size() || (extended_ >> pcr & 1) == 0) return std::nullopt;
  return ByteView{values_[pcr]}.first(digest_size(bank_));
}

Result<ReplayedPcrs> replay(const EventLog& log, LogAlgorithm bank) {
  const auto not_covered = [](std::string what) {
    return Error{Code::kUnverified, Reason::kEventLogBank, std::move(what)};
  };
  const std::string name = log_algorithm_name(bank);
  if (!log.has_bank(bank)) return not_covered("the log has no " + name + " digests");
  const std::size_t size = digest_size(bank);
  ReplayedPcrs out{bank};
  for (std::size_t pcr = 17; pcr <= 22; ++pcr) out.values_[pcr].fill(0xFF);
  out.values_[0][size - 1] = log.pcr0_start();
  ByteArray<2 * kMaxDigestBytes> both;
  for (const LogEvent& event : log.events()) {
    if (!event.extends()) continue;
    const std::optional<ByteView> digest = event.digest(bank);
    if (!digest) return not_covered(place_text(event) + " has no " + name + " digest");
    std::uint8_t* const value = out.values_[event.pcr].data();
    std::memcpy(both.data(), value, size);
    std::memcpy(both.data() + size, digest->data(), size);
    const ByteView input{both.data(), 2 * size};
    switch (bank) {
      case LogAlgorithm::kSha1:
        std::memcpy(value, crypto::sha1(input).data(), size);
        break;
      case LogAlgorithm::kSha256:
        std::memcpy(value, crypto::sha256(input).get().data(), size);
        break;
      case LogAlgorithm::kSha384:
        std::memcpy(value, crypto::sha384(input).data(), size);
        break;
      case LogAlgorithm::kSha512:
        std::memcpy(value, crypto::sha512(input).data(), size);
        break;
    }
    out.extended_ |= std::uint32_t{1} << event.pcr;
  }
  return out;
}

Result<std::vector<Digest256>> replayed_values(const ReplayedPcrs& pcrs, const PcrSelection& selection) {
  if (pcrs.bank() != LogAlgorithm::kSha256)
    return Error{Code::kUnverified, Reason::kEventLogBank, "replayed PCRs of another bank than sha256"};
  std::vector<Digest256> values;
  for (const std::uint8_t index : selection.indices()) {
    const std::optional<ByteView> value = pcrs.find(index);
    if (!value && index >= kFirstOfBootLoaders) {
      values.emplace_back();  // a machine without such a boot loader leaves it as it started
      continue;
    }
    if (!value)
      return Error{Code::kUnverified, Reason::kEventLogReplay,
                   "no event of the log extends PCR " + std::to_string(index)};
    ByteArray<32> bytes;
    std::memcpy(bytes.data(), value->data(), bytes.size());
    values.emplace_back(bytes);
  }
  return values;
}

Status check_replayed(std::span<const Digest256> replayed, const PcrSelection& selection,
                      const Digest256& digest, std::span<const Digest256> values) {
  if (pcr_digest(replayed) == digest) return Done{};
  std::string which;
  const std::vector<std::uint8_t> indices = selection.indices();
  for (std::size_t i = 0; i < std::min({values.size(), replayed.size(), indices.size()}); ++i)
    if (values[i] != replayed[i]) which += (which.empty() ? ": PCR " : ", ") + std::to_string(indices[i]);
  return Error{Code::kUnverified, Reason::kEventLogReplay,
               "replaying the log gives other values than the TPM has" + which};
}

Result<ReplayedPcrs> verify_event_log(const EventLog& log, const PcrSelection& selection,
                                      const Digest256& digest, std::span<const Digest256> values) {
  SP_TRY(ReplayedPcrs pcrs, replay(log, LogAlgorithm::kSha256));
  SP_TRY(const std::vector<Digest256> replayed, replayed_values(pcrs, selection));
  SP_CHECK(check_replayed(replayed, selection, digest, values));
  return pcrs;
}

Result<ReplayedPcrs> verify_event_log(const EventLog& log, const VerifiedQuote& quote) {
  return verify_event_log(log, quote.selection(), quote.pcr_digest(), quote.pcr_values());
}

bool data_hashes_to_digest(const LogEvent& event) {
  const std::optional<ByteView> digest = event.digest(LogAlgorithm::kSha256);
  return digest && equal(*digest, view(crypto::sha256(event.data)));
}

}  // namespace sallyport::evidence
