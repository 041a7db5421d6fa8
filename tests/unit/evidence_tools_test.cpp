#include <gmock/gmock.h>

#include <fstream>
#include <map>
#include <sstream>

#include "attestation/crypto/digest.h"
#include "attestation/evidence/event_log.h"
#include "attestation/record/canonical_json.h"
#include "attestation/record/entry.h"
#include "client/evidence/commands.h"
#include "tests/support/files.h"
#include "tests/support/ima_log.h"
#include "tests/support/matchers.h"
#include "tests/support/run_tool.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::client::evidence_tools {
namespace {

using test::Ran;
using test::read_file;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Ran run(std::vector<std::string> words) {
  words.insert(words.begin(), "evidence");
  return test::run_tool(std::move(words), {commands()});
}

std::string log_path(const std::string& name) {
  return "tests/vectors/event_logs/" + name;
}

class EvidenceTools : public testing::Test {
 protected:
  std::string file(ByteView bytes) {
    const std::filesystem::path path = directory_ / std::to_string(files_++);
    std::ofstream{path, std::ios::binary} << as_text(bytes);
    return path.string();
  }
  SoftTpm tpm_;

 private:
  test::TemporaryDirectory directory_;
  int files_ = 0;
};

record::json::Value json(const Ran& ran) {
  EXPECT_EQ(ran.exit, 0) << ran.out << ran.err;
  return value_of(record::json::parse_canonical(as_bytes(ran.out.substr(0, ran.out.size() - 1)), 1 << 20));
}

TEST_F(EvidenceTools, ReplayTellsThePcrsOfEachBank) {
  const Ran ran = run({"replay", log_path("p511.log")});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("crypto-agile · 59 events · 62 KiB"));
  EXPECT_THAT(ran.out, HasSubstr("not replayed: event 43 (EV_COMPACT_HASH, PCR 11) has no sha1 digest"));
  EXPECT_THAT(ran.out, HasSubstr("   7  48d7c7f9d3ee6d1a8a0fb7995162aaecd00ebb9d05be790701d4eeec8df8519e\n"));
  EXPECT_THAT(ran.out, HasSubstr("no event extends PCR 8–10, 15–23"));
  EXPECT_THAT(run({"replay", log_path("dell1.log")}).out,
              HasSubstr("starts at 3, the locality that the log states"));
  Bytes padded = read_file(log_path("dell1.log"));
  padded.insert(padded.end(), 100, 0xFF);
  EXPECT_THAT(run({"replay", file(padded)}).out, HasSubstr("of which 100 B are padding"));
}

TEST_F(EvidenceTools, ReplayTakesOneBank) {
  const Ran ran = run({"replay", log_path("dell1.log"), "--bank", "sha256"});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("\nsha256\n"), Not(HasSubstr("\nsha1\n"))));
  const Ran uncovered = run({"replay", log_path("dell1.log"), "--bank", "sha1"});
  EXPECT_EQ(uncovered.exit, 5);
  EXPECT_THAT(uncovered.err, HasSubstr("[event-log/bank]"));
  EXPECT_EQ(run({"replay", log_path("dell1.log"), "--bank", "md5"}).exit, 2);
}

TEST_F(EvidenceTools, ReplayRefusesWhatIsNoLog) {
  const Ran ran = run({"replay", log_path("specid-vendordata.bin")});
  EXPECT_EQ(ran.exit, 5);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("[event-log/form]"), HasSubstr("event 0")));
  EXPECT_EQ(run({"replay", file({})}).exit, 5);
  EXPECT_EQ(run({"replay", file(Bytes(evidence::kMaxEventLogBytes + 1, 0))}).exit, 2);
  EXPECT_EQ(run({"replay"}).exit, 2);
  EXPECT_EQ(run({"replay", "/nowhere"}).exit, 2);
}

TEST_F(EvidenceTools, ReplaySpeaksJson) {
  const auto value = json(run({"replay", log_path("dell1.log"), "-f", "json"}));
  const auto& members = *value.as_object();
  ASSERT_EQ(members[0].name, "banks");
  const auto& banks = *members[0].value.as_array();
  ASSERT_EQ(banks.size(), 2u);
  EXPECT_EQ((*banks[0].as_object())[1].name, "not_replayed");
  EXPECT_EQ((*banks[1].as_object())[1].value.as_array()->size(), 12u);
  EXPECT_EQ(members.back().name, "startup_locality");
  EXPECT_EQ(*members.back().value.as_integer(), 3u);
}

TEST_F(EvidenceTools, ShowTellsALogEventByEvent) {
  const Ran ran = run({"show", log_path("event-sd-boot-fedora37.bin")});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("event log, crypto-agile, 28 events"));
  EXPECT_THAT(ran.out, HasSubstr("   12  EV_IPL                            = \" console=ttyS0"));
  EXPECT_THAT(ran.out,
              HasSubstr("    9  EV_EVENT_TAG                        tag 0x8f3b22ec: \"Linux initrd\""));
  EXPECT_THAT(
      ran.out,
      HasSubstr("    1  EV_EFI_VARIABLE_BOOT              ~ variable BootOrder: 0001 0002 0000 0003"));
  // Of an event with PCR 0xFFFFFFFF nothing is told as its PCR.
  EXPECT_THAT(run({"show", log_path("p511.log")}).out, HasSubstr("   58    -  EV_NO_ACTION"));
  const auto value = json(run({"show", log_path("event-sd-boot-fedora37.bin"), "-f", "json"}));
  EXPECT_EQ((*value.as_object())[0].value.as_array()->size(), 28u);
}

TEST_F(EvidenceTools, ShowTellsAQuoteAndACertification) {
  const auto selection = evidence::PcrSelection::standard();
  const Digest256 binding = crypto::sha256(as_bytes("binding"));
  const evidence::SignedAttest quote = tpm_.quote(binding);
  const Ran raw = run({"show", file(quote.attest)});
  EXPECT_EQ(raw.exit, 0) << raw.err;
  EXPECT_THAT(raw.out, HasSubstr("quote of a TPM (TPMS_ATTEST); its signature is not judged here"));
  EXPECT_THAT(raw.out, HasSubstr("answers    " + to_hex(binding)));
  EXPECT_THAT(raw.out, HasSubstr("reset 7, restart 1, safe"));
  EXPECT_THAT(raw.out, HasSubstr("sha256: 0 1 2 3 4 5 6 7 14"));

  record::QuoteEvidence item{quote.attest, quote.signature, {}};
  for (const Digest256& value : tpm_.pcr_values(selection)) item.pcrs.push_back(value.get());
  EXPECT_THAT(run({"show", file(encode(item))}).out, HasSubstr("values     come to the digest"));
  item.pcrs[3][0] ^= 1;
  EXPECT_THAT(run({"show", file(encode(item))}).out, HasSubstr("do NOT come to the digest"));
  EXPECT_THAT(run({"show", file(encode(item)), "-f", "json"}).out, HasSubstr("\"values_agree\":false"));

  const auto key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  const auto session = tpm_.create_session_key(
      evidence::SessionKeyUse::kSign,
      tpm_.session_policy(key.public_key(), Origin{"us.sallyport.example/log/1"}, CaseId{ByteArray<16>{1}}));
  const Ran certify = run({"show", file(tpm_.certify(session, binding).attest)});
  EXPECT_THAT(certify.out, AllOf(HasSubstr("certification of a TPM"), HasSubstr(to_hex(view(session.name)))));
}

TEST_F(EvidenceTools, ShowSaysWhatAnotherFileCouldBe) {
  const auto said = [&](ByteView bytes) {
    const std::string path = file(bytes);
    const Ran ran = run({"show", path});
    EXPECT_EQ(ran.exit, 2);
    EXPECT_THAT(ran.err, AllOf(HasSubstr("[file]"), HasSubstr(path), Not(HasSubstr("command line"))));
    return ran.err;
  };
  EXPECT_THAT(said({}), HasSubstr("an empty file"));
  EXPECT_THAT(said(as_bytes("-----BEGIN CERTIFICATE-----\n")), HasSubstr("certificate bundle: "));
  EXPECT_THAT(said(as_bytes("-----BEGIN PRIVATE KEY-----\n")), HasSubstr("a PEM file"));
  EXPECT_THAT(said(ByteArray<5>{0x30, 0x80, 0x01, 0x02, 0x03}), HasSubstr("DER"));
  EXPECT_THAT(said(as_bytes("{\"a\":1}")), HasSubstr("JSON"));
  EXPECT_THAT(said(as_bytes("10 91f3 ima-ng sha1:0 boot_aggregate\n")), HasSubstr("IMA"));
  EXPECT_THAT(said(read_file("tests/vectors/ima/ima-sha1.log")), HasSubstr("IMA"));
  EXPECT_THAT(said(as_bytes("version = 1\n[[reference]]\n")), HasSubstr("reference values"));
  EXPECT_THAT(said(ByteArray<5>{0xAA, 0x55, 0x01, 0x02, 0x03}), HasSubstr("nothing that is known here"));
  Bytes sized = tpm_.quote(crypto::sha256(as_bytes("binding"))).attest;
  sized.insert(sized.begin(), {0, static_cast<std::uint8_t>(sized.size())});
  EXPECT_THAT(said(sized), HasSubstr("cut its first two bytes off"));
}

constexpr std::string_view kCertificates = "tests/vectors/ek_certificates/";
std::string certificate(std::string_view name) {
  return std::string{kCertificates} + std::string{name};
}

TEST_F(EvidenceTools, ShowTellsAnEkCertificate) {
  const Ran ran = run({"show", certificate("st33htphahb4-rsa-nv-padded.bin")});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(
      ran.out,
      AllOf(HasSubstr("certificate, of an endorsement key; who signed it is not judged here\n"),
            HasSubstr("TPM        STM ST33HTPHAHB4, version id:00490004\n"),
            HasSubstr("key        rsa2048, 2048 bits · device "), HasSubstr("subject    none\n"),
            HasSubstr("issuer     CN=STM TPM EK Intermediate CA 05"),
            HasSubstr("SAN        manufacturer id:53544D20, model ST33HTPHAHB4, version id:00490004 · "
                      "critical\n"),
            HasSubstr("usage      keyEncipherment · EKU 2.23.133.8.1 (tcg-kp-EKCertificate)\n"),
            HasSubstr("odd        Padding that fills its NV index followed it.\n"),
            Not(HasSubstr("refused"))));
  const auto shown = [&](std::string_view name) { return run({"show", certificate(name)}).out; };
  EXPECT_THAT(shown("nuvoton-npct75x.der"),
              AllOf(HasSubstr("not in DER's order"), HasSubstr("one multi-valued RDN")));
  EXPECT_THAT(shown("hirs-st33zp24-with-7-byte-header.bin"),
              AllOf(HasSubstr("7-byte header"),
                    HasSubstr("key        rsa, RSAES-OAEP only, 2048 bits: not supported"),
                    HasSubstr("now        not valid\n"),
                    HasSubstr("refused    by every enrolment: [ek/unsupported]")));
  EXPECT_THAT(shown("hirs-sw-tpm-rsa2041.der"), HasSubstr("key        rsa, 2041 bits: not supported"));
  EXPECT_THAT(shown("gce-pca-rsa-ek.der"), AllOf(HasSubstr("SAN        none\n"), HasSubstr("EKU none\n"),
                                                 HasSubstr("no extended key usage")));
  // Certificates of something else are told as such.
  EXPECT_THAT(shown("gce-uca-ecc-ak.der"),
              AllOf(HasSubstr("certificate, NOT of an endorsement key"), HasSubstr("digitalSignature"),
                    HasSubstr("[ek/certificate] certificate of a signing key")));
  EXPECT_THAT(shown("nuvoton-root-2110-invalid-set-ordering.der"), HasSubstr("NOT of an endorsement key"));
  // PEM, with text before it; one at a time.
  const std::string pem = "tests/vectors/evidence_swtpm/root.pem";
  EXPECT_THAT(run({"show", pem}).out, HasSubstr("NOT of an endorsement key"));
  const std::string text{as_text(read_file(pem))};
  EXPECT_EQ(run({"show", file(as_bytes("a CA\n" + text))}).exit, 0);
  const Ran two = run({"show", file(as_bytes(text + text))});
  EXPECT_EQ(two.exit, 2);
  EXPECT_THAT(two.err, HasSubstr("holds 2 certificates"));
  // One that is cut off, and bytes after it that are no padding.
  Bytes whole = read_file(certificate("infineon-slb9665.der"));
  EXPECT_EQ(run({"show", file(ByteView{whole}.first(whole.size() - 1))}).exit, 5);
  whole.insert(whole.end(), {1, 2});
  EXPECT_THAT(run({"show", file(whole)}).err, HasSubstr("no padding"));
}

TEST_F(EvidenceTools, ShowTellsAnEkCertificateInJson) {
  const auto members = [&](std::string_view name) {
    std::map<std::string, record::json::Value> out;
    const auto value = json(run({"show", certificate(name), "-f", "json"}));
    for (const auto& member : *value.as_object()) out.emplace(member.name, member.value);
    return out;
  };
  const auto ek = members("infineon-slb9665.der");
  EXPECT_EQ(*ek.at("kind").as_string(), "ek-certificate");
  EXPECT_EQ(*ek.at("key").as_string(), "rsa2048");
  EXPECT_EQ(*ek.at("key_bits").as_integer(), 2048u);
  EXPECT_EQ(*ek.at("eku").as_array()->at(0).as_string(), "2.23.133.8.1");
  EXPECT_EQ(*ek.at("manufacturer").as_string(), "IFX");
  EXPECT_EQ(ek.at("san").as_array()->size(), 3u);
  EXPECT_TRUE(*ek.at("san_critical").as_bool());
  EXPECT_EQ(ek.at("device").as_string()->size(), 64u);
  EXPECT_FALSE(ek.contains("refused"));
  const auto old = members("hirs-st33zp24.der");
  EXPECT_FALSE(old.contains("device"));
  EXPECT_EQ(*old.at("key").as_string(), "rsa, RSAES-OAEP only");
  EXPECT_EQ(*old.at("refused").as_object()->at(0).value.as_string(), "ek/unsupported");
  EXPECT_EQ(*members("gce-uca-ecc-ak.der").at("kind").as_string(), "certificate");
}

// What was given in place of a file that is binary is named, and so is where the right one is.
TEST_F(EvidenceTools, TextInPlaceOfALogOrListIsToldAsText) {
  const std::string text =
      file(as_bytes("10 91f3 ima-ng sha1:0 boot_aggregate\n10 77 ima-ng sha1:0 /bin/a\n"));
  const Ran ima = run({"ima", text});
  EXPECT_EQ(ima.exit, 5);
  EXPECT_THAT(ima.err, AllOf(HasSubstr("[ima/form]"), HasSubstr(text + " looks like"), HasSubstr("as text"),
                             HasSubstr("ima/binary_runtime_measurements"), HasSubstr("not ascii_"),
                             Not(HasSubstr("entry 0"))));
  const Ran replay = run({"replay", file(as_bytes(" 0 91f3 08 [S-CRTM Version]\n"))});
  EXPECT_EQ(replay.exit, 5);
  EXPECT_THAT(replay.err, AllOf(HasSubstr("looks like text"), HasSubstr("tpm0/binary_bios_measurements"),
                                Not(HasSubstr("evidence replay"))));
  // The one in place of the other, by name and with what is wrong with it as such.
  EXPECT_THAT(run({"ima", log_path("dell1.log")}).err, HasSubstr("it looks like an event log"));
  EXPECT_THAT(run({"replay", "tests/vectors/ima/ima-sha1.log"}).err, HasSubstr("measurement list (IMA)"));
}

TEST_F(EvidenceTools, NoListAtAllIsNoListThatIsExpected) {
  const Ran ran = run({"ima", "/dev/null"});
  EXPECT_EQ(ran.exit, 5);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("/dev/null is empty"), HasSubstr("boot_aggregate")));
  EXPECT_THAT(run({"replay", "/dev/null"}).err, HasSubstr("/dev/null is empty"));
}

TEST_F(EvidenceTools, AFileThatCannotBeReadIsNoWrongCommandLine) {
  for (const char* command : {"replay", "show", "ima", "verify-ek"}) {
    const Ran ran = run({command, "/nowhere"});
    EXPECT_EQ(ran.exit, 2);
    EXPECT_THAT(ran.err, AllOf(HasSubstr("[file]"), HasSubstr("/nowhere: No such file or directory"),
                               HasSubstr("sudo cat"), Not(HasSubstr("command line"))));
    EXPECT_THAT(run({command, "/tmp"}).err, AllOf(HasSubstr("[file]"), HasSubstr("/tmp is a directory")));
  }
  EXPECT_THAT(run({"replay", file(Bytes(evidence::kMaxEventLogBytes + 1, 0))}).err,
              AllOf(HasSubstr("[file]"), HasSubstr("is larger than 1048576 bytes")));
}

// None of these commands opens a token.
TEST_F(EvidenceTools, AsksForNoPin) {
  for (const Command& command : commands()) {
    std::vector<std::string> words;
    std::istringstream name{std::string{command.name}};
    for (std::string word; name >> word;) words.push_back(word);
    words.push_back("--help");
    const Ran ran = test::run_tool(words, {commands()});
    EXPECT_EQ(ran.exit, 0);
    EXPECT_THAT(ran.out, AllOf(HasSubstr("--format"), Not(HasSubstr("--pin")))) << command.name;
  }
}

TEST_F(EvidenceTools, ImaReplaysAListToAQuotedValueAndSaysWhichFileIsNotExpected) {
  const std::string list = "tests/vectors/ima/ima-sha1.log";
  const std::string quoted = "7fac48c81837d6d29046008aef0cdad8c2745cc98c3340cbba9bfdf39b4124b8";
  const Ran whole = run({"ima", list});
  EXPECT_EQ(whole.exit, 0) << whole.err;
  EXPECT_THAT(whole.out, AllOf(HasSubstr("362 entries"), HasSubstr(quoted + "  (own hash)"),
                               HasSubstr("  (padded SHA-1)"), HasSubstr("a claim")));
  EXPECT_THAT(run({"ima", list, "--pcr10", quoted}).out, HasSubstr("after 362 entries; 0 came later"));
  const Ran told = run({"ima", "tests/vectors/ima/ima-sha256.log", "--template-hash", "sha256", "--pcr10",
                        quoted, "-f", "json"});
  EXPECT_THAT(told.out, AllOf(HasSubstr("\"files\":\"not appraised\""), HasSubstr("\"violations\":0"),
                              HasSubstr("\"extension\":\"own hash\"")));
  json(told);  // it is canonical
  const Ran other = run({"ima", list, "--pcr10", std::string(64, '0').replace(0, 1, "1")});
  EXPECT_EQ(other.exit, 5);
  EXPECT_THAT(other.err, HasSubstr("none of 362 entries"));
  EXPECT_EQ(run({"ima", list, "--allow", file(as_bytes("sha256:00 /usr/bin/kmod\n"))}).exit, 5);
  const std::string kmod = file(
      as_bytes("sha256:5ad811f923e951403fb1252c25059628bab7c9b00925df7da01c2b5ba0b62d79 /usr/bin/kmod\n"));
  EXPECT_THAT(run({"ima", list, "--allow", kmod}).err, HasSubstr("entry 2, /usr/lib64/ld-linux-x86-64.so.2"));
  const Ran unexpected = run({"ima", list, "--allow", file({})});
  EXPECT_EQ(unexpected.exit, 5);
  EXPECT_THAT(unexpected.err, HasSubstr("entry 1, /usr/bin/kmod"));
  EXPECT_EQ(run({"ima", list, "--pcr10", "00"}).exit, 2);
  // By what a policy says.
  const std::string good =
      "version = 1\n[[reference]]\nid = \"enrolled\"\nas_enrolled = true\n[ima]\nviolations = true\n"
      "files = \"\"\"\n";
  const test::ImaLog log = test::ImaLog::booted().file("/usr/bin/ssh", "ssh 9.2").violation("/var/log/a");
  const std::string own = file(log.bytes);
  const std::string references = file(as_bytes(good + log.allow_list() + "\"\"\"\n"));
  const Ran expected = run({"ima", own, "--references", references});
  EXPECT_EQ(expected.exit, 0) << expected.err;
  EXPECT_THAT(expected.out, HasSubstr("each is expected: 1 listed, 0 signed, 1 violations"));
  EXPECT_THAT(run({"ima", list, "--references", references}).err, HasSubstr("[ima/unexpected]"));
  EXPECT_EQ(run({"ima", own, "--references", references, "--allow", kmod}).exit, 2);
  const Ran no_table = run({"ima", own, "--references", file(as_bytes(good.substr(0, good.find("[ima]"))))});
  EXPECT_EQ(no_table.exit, 2);
  EXPECT_THAT(no_table.err, HasSubstr("has no [ima]"));
  EXPECT_EQ(run({"ima", list, "--template-hash", "md5"}).exit, 2);
  EXPECT_EQ(run({"ima"}).exit, 2);
}

}  // namespace
}  // namespace sallyport::client::evidence_tools
