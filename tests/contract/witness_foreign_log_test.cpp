// The witness as other logs see it. All that they say and check is made here, of OpenSSL and of strings after
// the C2SP texts, by no code of ours: so the two readings of those texts check each other.
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <memory>

#include "attestation/net/http_client.h"
#include "tests/support/matchers.h"
#include "tests/support/witness_process.h"

namespace sallyport::test {
namespace {

using testing::HasSubstr;

std::string sha256(const std::string& text) {
  std::string out(32, '\0');
  EVP_Digest(text.data(), text.size(), reinterpret_cast<unsigned char*>(out.data()), nullptr, EVP_sha256(),
             nullptr);
  return out;
}
std::string base64(const std::string& bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  out.resize(static_cast<std::size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                                      reinterpret_cast<const unsigned char*>(bytes.data()),
                                                      static_cast<int>(bytes.size()))));
  return out;
}
std::string unbase64(const std::string& text) {
  std::string out(text.size(), '\0');
  const int size =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return {};
  out.resize(static_cast<std::size_t>(size));
  for (auto end = text.rbegin(); end != text.rend() && *end == '='; ++end) out.pop_back();
  return out;
}
std::string hex(const std::string& bytes) {
  std::string out;
  for (const char c : bytes)
    for (const int nibble : {static_cast<unsigned char>(c) >> 4, c & 15}) out += "0123456789abcdef"[nibble];
  return out;
}

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};

// RFC 6962 §2.1, as the text says it.
using Leaves = std::vector<std::string>;
std::size_t split(std::size_t n) {
  std::size_t k = 1;
  while (2 * k < n) k *= 2;
  return k;
}
Leaves part(const Leaves& d, std::size_t from, std::size_t to) {
  return {d.begin() + static_cast<std::ptrdiff_t>(from), d.begin() + static_cast<std::ptrdiff_t>(to)};
}
std::string mth(const Leaves& d) {
  if (d.empty()) return sha256("");
  if (d.size() == 1) return sha256(std::string(1, '\0') + d[0]);
  const std::size_t k = split(d.size());
  return sha256("\x01" + mth(part(d, 0, k)) + mth(part(d, k, d.size())));
}
Leaves subproof(std::size_t m, const Leaves& d, bool whole) {
  if (m == d.size()) return whole ? Leaves{} : Leaves{mth(d)};
  const std::size_t k = split(d.size());
  Leaves proof = m <= k ? subproof(m, part(d, 0, k), whole) : subproof(m - k, part(d, k, d.size()), false);
  proof.push_back(mth(m <= k ? part(d, k, d.size()) : part(d, 0, k)));
  return proof;
}

// A log of somebody else.
struct ForeignLog {
  std::string origin, key_name, raw;
  std::unique_ptr<EVP_PKEY, FreeKey> key;
  Leaves leaves;

  explicit ForeignLog(std::string origin_, std::string key_name_ = {})
      : origin(std::move(origin_)),
        key_name(key_name_.empty() ? origin : std::move(key_name_)),
        raw(32, '\0'),
        key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")) {
    std::size_t size = raw.size();
    EVP_PKEY_get_raw_public_key(key.get(), reinterpret_cast<unsigned char*>(raw.data()), &size);
    for (int i = 0; i < 9; ++i) leaves.push_back(origin + " " + std::to_string(i));
  }
  std::string key_id() const { return sha256(key_name + "\n\x01" + raw).substr(0, 4); }
  std::string vkey() const { return key_name + "+" + hex(key_id()) + "+" + base64("\x01" + raw); }
  std::string flag() const { return key_name == origin ? vkey() : vkey() + " " + origin; }

  std::string text(std::size_t size, const std::string& extension = {}) const {
    return origin + "\n" + std::to_string(size) + "\n" + base64(mth(part(leaves, 0, size))) + "\n" +
           extension;
  }
  std::string line(const std::string& text) const {
    std::string signature(64, '\0');
    std::size_t size = signature.size();
    EVP_MD_CTX* const context = EVP_MD_CTX_new();
    EVP_DigestSignInit(context, nullptr, nullptr, nullptr, key.get());
    EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &size,
                   reinterpret_cast<const unsigned char*>(text.data()), text.size());
    EVP_MD_CTX_free(context);
    return "\xE2\x80\x94 " + key_name + " " + base64(key_id() + signature) + "\n";
  }
  std::string body(std::size_t old_size, std::size_t size, const std::string& note) const {
    std::string out = "old " + std::to_string(old_size) + "\n";
    if (old_size != 0)
      for (const std::string& hash : subproof(old_size, part(leaves, 0, size), true))
        out += base64(hash) + "\n";
    return out + "\n" + note;
  }
  std::string body(std::size_t old_size, std::size_t size) const {
    return body(old_size, size, text(size) + "\n" + line(text(size)));
  }
  std::string path() const { return "/" + hex(sha256(origin)) + "/checkpoint"; }
};

// check_cosignature reads the witness's line (C2SP tlog-cosignature, cosignature/v1) with its vkey.
void check_cosignature(const std::string& line, const std::string& vkey, const std::string& text) {
  const std::string name = vkey.substr(0, vkey.find('+'));
  const std::string material = unbase64(vkey.substr(vkey.find('+', name.size() + 1) + 1));
  ASSERT_EQ(material.size(), 33U);
  ASSERT_EQ(material[0], '\x04');
  const std::string prefix = "\xE2\x80\x94 " + name + " ";
  ASSERT_EQ(line.substr(0, prefix.size()), prefix);
  ASSERT_EQ(line.back(), '\n');
  const std::string bytes = unbase64(line.substr(prefix.size(), line.size() - prefix.size() - 1));
  ASSERT_EQ(bytes.size(), 4U + 8 + 64);
  EXPECT_EQ(bytes.substr(0, 4), sha256(name + "\n" + material).substr(0, 4));
  std::uint64_t time = 0;
  for (std::size_t i = 4; i < 12; ++i) time = time << 8 | static_cast<unsigned char>(bytes[i]);
  EXPECT_GT(time, 1'700'000'000U);
  const std::string message = "cosignature/v1\ntime " + std::to_string(time) + "\n" + text;
  const std::unique_ptr<EVP_PKEY, FreeKey> key{EVP_PKEY_new_raw_public_key(
      EVP_PKEY_ED25519, nullptr, reinterpret_cast<const unsigned char*>(material.data()) + 1, 32)};
  EVP_MD_CTX* const context = EVP_MD_CTX_new();
  EVP_DigestVerifyInit(context, nullptr, nullptr, nullptr, key.get());
  EXPECT_EQ(EVP_DigestVerify(context, reinterpret_cast<const unsigned char*>(bytes.data()) + 12, 64,
                             reinterpret_cast<const unsigned char*>(message.data()), message.size()),
            1);
  EVP_MD_CTX_free(context);
}

class WitnessForeignLog : public testing::Test {
 protected:
  // A log whose origin is a URL without its scheme (static-ct-api), one of Sigsum's, and one whose key has
  // another name than the log.
  ForeignLog ct_{"ct.example.org/2027h1"};
  ForeignLog sigsum_{"sigsum.org/v1/tree/7c5fafc796c201e0fcd7567c5033a2777ec28363f54ea0ba97b57bece0d96acd"};
  ForeignLog sumdb_{"go.sum database tree", "sum.golang.org"};
  WitnessProcess witness_{
      SALLYPORT_WITNESS_PROGRAM, "witness.example/w1", {ct_.flag(), sigsum_.flag(), sumdb_.flag()}};
  net::HttpClient client_ = value_of(net::HttpClient::connect(witness_.url(), {}));
  std::string vkey_ = ledger::format_vkey(witness_.vkey());

  net::HttpResponse send(const std::string& body) {
    return value_of(client_.post("/add-checkpoint", "text/plain", as_bytes(body)));
  }
};

TEST_F(WitnessForeignLog, EachLogGrowsByItselfAndIsServed) {
  const ForeignLog* const logs[] = {&ct_, &sigsum_, &sumdb_};
  const std::size_t steps[] = {0, 1, 3, 4, 7, 7, 9};
  for (std::size_t i = 0; i + 1 < std::size(steps); ++i)
    for (const ForeignLog* log : logs) {
      SCOPED_TRACE(log->origin + " " + std::to_string(steps[i + 1]));
      const auto answer = send(log->body(steps[i], steps[i + 1]));
      EXPECT_EQ(answer.status, 200U) << answer.text();
      check_cosignature(std::string{answer.text()}, vkey_, log->text(steps[i + 1]));
      EXPECT_EQ(
          value_of(client_.get(log->path())).text(),
          log->text(steps[i + 1]) + "\n" + log->line(log->text(steps[i + 1])) + std::string{answer.text()});
    }
  for (const ForeignLog* log : logs) {
    const auto answer = send(log->body(3, 9));
    EXPECT_EQ(answer.status, 409U);
    EXPECT_EQ(answer.content_type, "text/x.tlog.size");
    EXPECT_EQ(answer.text(), "9\n");
  }
}

TEST_F(WitnessForeignLog, AllOfANoteIsCosignedItsExtensionLinesToo) {
  const std::string text = ct_.text(5, "timestamp 1700000000000\nan extension \xE2\x80\x94 of theirs\n");
  const auto answer = send(ct_.body(0, 5, text + "\n" + ct_.line(text)));
  ASSERT_EQ(answer.status, 200U) << answer.text();
  check_cosignature(std::string{answer.text()}, vkey_, text);
  EXPECT_EQ(value_of(client_.get(ct_.path())).text(),
            text + "\n" + ct_.line(text) + std::string{answer.text()});
  witness_.restart();  // what was stored is read again
  client_ = value_of(net::HttpClient::connect(witness_.url(), {}));
  EXPECT_EQ(send(ct_.body(5, 6)).status, 200U);
}

TEST_F(WitnessForeignLog, SignaturesOfUnknownKeysAreNotLookedAt) {
  const std::string text = ct_.text(5);
  // As Sunlight's logs do: a tree head of RFC 6962 under the same name, and noise of nobody (GREASE).
  const std::string tree_head =
      "\xE2\x80\x94 " + ct_.key_name + " " + base64("\x01\x02\x03\x04" + std::string(80, 'h')) + "\n";
  std::string lines = tree_head + ct_.line(text);
  for (int i = 0; i < 16; ++i)
    lines += "\xE2\x80\x94 grease.example/" + std::to_string(i) + " " + base64(std::string(20, 'g')) + "\n";
  const auto answer = send(ct_.body(0, 5, text + "\n" + lines));
  EXPECT_EQ(answer.status, 200U) << answer.text();
  EXPECT_EQ(value_of(client_.get(ct_.path())).text(),
            text + "\n" + ct_.line(text) + std::string{answer.text()});
}

TEST_F(WitnessForeignLog, AKeyIsBelievedForItsOwnLogOnly) {
  const std::string text = ct_.text(5);
  EXPECT_EQ(send(ct_.body(0, 5, text + "\n" + sigsum_.line(text))).status, 403U);
  ForeignLog stranger{"sum.golang.org"};  // the name of a key, which is no log's origin
  EXPECT_EQ(send(stranger.body(0, 5)).status, 404U);
  EXPECT_EQ(value_of(client_.get(stranger.path())).status, 404U);
}

}  // namespace
}  // namespace sallyport::test
