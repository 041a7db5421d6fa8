#include <algorithm>
#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/evidence/efi.h"
#include "attestation/record/canonical_json.h"
#include "attestation/record/entry.h"
#include "client/evidence/commands.h"
#include "client/evidence/ek_certificate.h"
#include "client/evidence/inputs.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

namespace po = boost::program_options;
using evidence::ClaimedAttest;
using evidence::ClaimedCertify;
using evidence::ClaimedEkCertificate;
using evidence::ClaimedQuote;
using evidence::ClaimedSessionAudit;
using evidence::EventLog;
using evidence::LogEvent;
using record::json::Member;
using record::json::Value;

void show_flags(po::options_description& flags) {
  flags.add_options()("file", po::value<std::string>(),
                      "an event log, a TPMS_ATTEST, a quote of a dossier, or an EK certificate");
}

// ---- event logs

// How much of an event's data its SHA-256 digest is of.
std::string_view measured_name(const LogEvent& event) {
  const auto part = evidence::measured_part(event);
  return !part ? "none" : part->size() == event.data.size() ? "all" : "part";
}

Value json_of(const LogEvent& event) {
  Value::Array digests;
  for (const evidence::LogAlgorithm bank : evidence::kLogAlgorithms)
    if (const auto digest = event.digest(bank))
      digests.push_back(
          Value::object({{"algorithm", evidence::log_algorithm_name(bank)}, {"digest", to_hex(*digest)}}));
  std::vector<Member> members{{"data_size", std::uint64_t{event.data.size()}},
                              {"digests", std::move(digests)},
                              {"measured", measured_name(event)},
                              {"number", std::uint64_t{event.number}},
                              {"text", evidence::describe(event)},
                              {"type", evidence::event_type_name(event.type)}};
  if (event.pcr != evidence::kNoPcr) members.push_back({"pcr", std::uint64_t{event.pcr}});
  return Value::object(std::move(members));
}

Value json_of(const EventLog& log) {
  Value::Array events;
  for (const LogEvent& event : log.events()) events.push_back(json_of(event));
  return Value::object({{"events", std::move(events)},
                        {"form", log.crypto_agile() ? "crypto-agile" : "sha1"},
                        {"kind", "event-log"},
                        {"padding", std::uint64_t{log.padding_bytes()}}});
}

std::string in_width(std::string text, std::size_t width, bool right) {
  if (text.size() >= width) return text;
  return right ? text.insert(0, width - text.size(), ' ') : text + std::string(width - text.size(), ' ');
}

void print_text(const EventLog& log) {
  std::cout << "event log, " << (log.crypto_agile() ? "crypto-agile" : "SHA-1 only") << ", "
            << grouped(log.events().size())
            << " events\n\n    #  PCR  TYPE                                WHAT\n";
  for (const LogEvent& event : log.events())
    std::cout << in_width(std::to_string(event.number), 5, true) << "  "
              << in_width(event.pcr == evidence::kNoPcr ? "-" : std::to_string(event.pcr), 3, true) << "  "
              << in_width(evidence::event_type_name(event.type), 34, false)
              << (measured_name(event) == "all"    ? "= "
                  : measured_name(event) == "part" ? "~ "
                                                   : "  ")
              << printable(evidence::describe(event)) << "\n";
  std::cout << "\n= the SHA-256 digest is of the data; ~ of a part: a variable's content, not its name; a "
               "text without its "
               "prefix.\nOf other events only the digest is measured, and of no event its type. That a TPM "
               "has these digests, "
               "only its\nquote proves (sallyport evidence replay)."
            << std::endl;
}

// ---- TPMS_ATTEST, and the quote of a dossier

std::string pcrs_text(const evidence::PcrSelection& selection) {
  std::string text;
  for (const std::uint8_t index : selection.indices())
    text += (text.empty() ? "" : " ") + std::to_string(index);
  return text;
}

std::string number_hex(std::uint64_t number) {
  ByteArray<8> octets;
  for (std::size_t i = 0; i < octets.size(); ++i)
    octets[i] = static_cast<std::uint8_t>(number >> 8 * (7 - i));
  return to_hex(ByteView{octets});
}

Value::Array pcrs_of(const evidence::PcrSelection& selection) {
  Value::Array out;
  for (const std::uint8_t index : selection.indices()) out.push_back(std::uint64_t{index});
  return out;
}

std::vector<Member> members_of(const ClaimedAttest& attest) {
  std::vector<Member> members{{"clock_ms", attest.clock.clock_ms},
                              {"extra_data", to_hex(attest.extra_data)},
                              {"firmware_version", number_hex(attest.firmware_version)},
                              {"reset_count", std::uint64_t{attest.clock.reset_count}},
                              {"restart_count", std::uint64_t{attest.clock.restart_count}},
                              {"safe", Value{attest.clock.safe}},
                              {"signer", to_hex(view(attest.qualified_signer))}};
  if (const auto* quote = std::get_if<ClaimedQuote>(&attest.attested)) {
    members.push_back({"kind", "quote"});
    members.push_back({"pcr_digest", to_hex(quote->pcr_digest)});
    members.push_back({"pcrs", pcrs_of(quote->selection)});
  } else if (const auto* certify = std::get_if<ClaimedCertify>(&attest.attested)) {
    members.push_back({"kind", "certify"});
    members.push_back({"name", to_hex(view(certify->name))});
    members.push_back({"qualified_name", to_hex(view(certify->qualified_name))});
  } else if (const auto* audit = std::get_if<ClaimedSessionAudit>(&attest.attested)) {
    members.push_back({"exclusive", Value{audit->exclusive}});
    members.push_back({"kind", "session-audit"});
    members.push_back({"session_digest", to_hex(audit->session_digest)});
  }
  return members;
}

void print_text(const ClaimedAttest& attest) {
  const auto* quote = std::get_if<ClaimedQuote>(&attest.attested);
  const auto* certify = std::get_if<ClaimedCertify>(&attest.attested);
  const auto* audit = std::get_if<ClaimedSessionAudit>(&attest.attested);
  std::cout << (quote != nullptr     ? "quote"
                : certify != nullptr ? "certification"
                                     : "audit of a session")
            << " of a TPM (TPMS_ATTEST); its signature is not judged here\n"
            << "signer     " << to_hex(view(attest.qualified_signer)) << "\n"
            << "answers    " << to_hex(attest.extra_data) << "\n"
            << "clock      " << grouped(attest.clock.clock_ms) << " ms, reset " << attest.clock.reset_count
            << ", restart " << attest.clock.restart_count << (attest.clock.safe ? ", safe" : ", not safe")
            << "\n"
            << "firmware   " << number_hex(attest.firmware_version) << "\n";
  if (quote != nullptr) {
    std::cout << "PCRs       sha256: " << pcrs_text(quote->selection) << "\n"
              << "digest     " << to_hex(quote->pcr_digest) << "\n";
  }
  if (certify != nullptr)
    std::cout << "certifies  " << to_hex(view(certify->name)) << "\n"
              << "qualified  " << to_hex(view(certify->qualified_name)) << "\n";
  if (audit != nullptr) std::cout << "session    " << to_hex(audit->session_digest) << "\n";
  std::cout << std::flush;
}

// The quote of a request or grant, with the PCR values that the machine stated beside it.
Result<int> show_quote(const record::QuoteEvidence& item, const Arguments& arguments) {
  SP_TRY(const ClaimedAttest attest, evidence::parse_attest(item.attest));
  const auto* quote = std::get_if<ClaimedQuote>(&attest.attested);
  if (quote == nullptr) return Error{Code::kMalformed, "a quote that is no quote"};
  std::vector<Digest256> values;
  for (const auto& pcr : item.pcrs) values.emplace_back(pcr);
  const bool agrees =
      values.size() == quote->selection.count() && evidence::pcr_digest(values) == quote->pcr_digest;
  const std::vector<std::uint8_t> indices = quote->selection.indices();
  if (arguments.json) {
    std::vector<Member> members = members_of(attest);
    Value::Array stated;
    for (const Digest256& value : values) stated.push_back(to_hex(value));
    members.push_back({"values", std::move(stated)});
    members.push_back({"values_agree", Value{agrees}});
    print_json(Value::object(std::move(members)));
    return 0;
  }
  print_text(attest);
  std::cout << "values     " << (agrees ? "come to the digest" : "do NOT come to the digest") << "\n";
  for (std::size_t i = 0; i < values.size(); ++i)
    std::cout << in_width(i < indices.size() ? std::to_string(indices[i]) : "?", 4, true) << "  "
              << to_hex(values[i]) << "\n";
  std::cout << std::flush;
  return 0;
}

// ---- EK certificates

// is_ek tells whether a certificate is meant for an endorsement key, if of one that is not supported.
bool is_ek(const ClaimedEkCertificate& claimed) {
  return !claimed.certificate.is_ca() &&
         !(claimed.refused && claimed.refused->reason == Reason::kEkCertificate);
}

int show_certificate(const ClaimedEkCertificate& claimed, const Arguments& arguments) {
  if (arguments.json) {
    std::vector<Member> members = ek_members(claimed);
    members.push_back({"kind", is_ek(claimed) ? "ek-certificate" : "certificate"});
    if (claimed.refused)
      members.push_back({"refused", Value::object({{"code", reason_name(claimed.refused->reason)},
                                                   {"text", claimed.refused->what}})});
    print_json(Value::object(std::move(members)));
    return 0;
  }
  std::cout << "certificate, " << (is_ek(claimed) ? "" : "NOT ")
            << "of an endorsement key; who signed it is not judged here\n";
  print_ek(claimed);
  if (now() < claimed.certificate.not_before() || now() >= claimed.certificate.not_after())
    std::cout << "now        not valid\n";
  if (claimed.refused)
    std::cout << "refused    by every enrolment: [" << reason_name(claimed.refused->reason) << "] "
              << printable(claimed.refused->what) << "\n";
  std::cout << std::flush;
  return 0;
}

// ---- telling what a file is

// may_be_certificate: PEM, DER, or DER behind the 7-byte header of TPM 1.2 tools.
bool may_be_certificate(ByteView bytes) {
  const auto begins = [&](std::uint8_t a, std::uint8_t b) {
    return bytes.size() > 2 && bytes[0] == a && bytes[1] == b;
  };
  if (begins(0x30, 0x82) || begins(0x10, 0x01)) return true;
  const bool binary = std::ranges::find(bytes, std::uint8_t{0}) != bytes.end();
  return !binary && as_text(bytes).find("-----BEGIN CERTIFICATE-----") != std::string_view::npos;
}

Result<int> run_show(const Arguments& arguments) {
  if (!arguments.has("file")) return usage("sallyport evidence show FILE");
  SP_TRY(Bytes bytes, read_whole_file(arguments.text("file"), evidence::kMaxEventLogBytes));
  static constexpr ByteArray<4> kTpmGenerated{0xFF, 0x54, 0x43, 0x47};
  if (bytes.size() > 4 && equal(ByteView{bytes}.first(4), kTpmGenerated)) {
    const auto parsed = evidence::parse_attest(bytes);
    if (!parsed.has_value()) return of_file(arguments.text("file"), parsed.error());
    const ClaimedAttest& attest = *parsed;
    if (arguments.json)
      print_json(Value::object(members_of(attest)));
    else
      print_text(attest);
    return 0;
  }
  if (const auto item = record::parse_quote_evidence(bytes); item.has_value())
    return show_quote(*item, arguments);
  const std::string path = arguments.text("file"), look = looks_like(bytes);
  if (may_be_certificate(bytes)) {
    SP_TRY(const Bytes as_read, as_read_of(path, std::move(bytes)));
    const auto claimed = evidence::read_ek_certificate(as_read);
    if (!claimed.has_value()) return of_file(path, claimed.error());
    return show_certificate(*claimed, arguments);
  }
  const auto log = EventLog::parse(std::move(bytes));
  if (!log.has_value())
    return Error{
        Code::kMalformed, Reason::kFile,
        path + ": neither an event log nor a TPMS_ATTEST nor a quote nor a certificate; it looks like " +
            (look.empty() ? "nothing that is known here" : look) + ". As an event log: " + log.error().what};
  if (arguments.json)
    print_json(json_of(*log));
  else
    print_text(*log);
  return 0;
}

}  // namespace

Command show_command() {
  return {
      "evidence show",
      "evidence show FILE",
      "what a piece of evidence says, event by event",
      "Offline. FILE is an event log, a TPMS_ATTEST (as tpm2_quote -m writes it, or a certification), the "
      "quote of a request, or an endorsement key's certificate (as read from NV, DER, or PEM); which one is "
      "found out. Nothing is believed: signatures are not judged, and of an event only what is marked = or ~ "
      "is measured.\n\n"
      "  sallyport evidence show boot.log\n"
      "  sallyport evidence show quote.msg -f json\n"
      "  sallyport evidence show ek.bin\n",
      show_flags,
      {"file"},
      run_show};
}

}  // namespace sallyport::client::evidence_tools
