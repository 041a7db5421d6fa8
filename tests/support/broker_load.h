#pragma once

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "tests/support/broker_process.h"
#include "tests/support/matchers.h"

namespace sallyport::test {

// A statement that is a whole case by itself: ivan revokes some case. Acknowledged when it is cosigned.
inline record::Submission make_drill(const BrokerProcess& world, Digest256* digest = nullptr) {
  const record::Revocation revocation{.authority = world.company.company.policy.origin,
                                      .case_id = crypto::random_case_id(),
                                      .kind = record::RevocationKind::kCase,
                                      .person = SampleCompany::id("ivan"),
                                      .reason = "drill",
                                      .target = to_hex(crypto::random_case_id()),
                                      .time = BrokerProcess::wall_clock()};
  const Bytes payload = record::encode(revocation);
  const std::string type = record::payload_type(record::Kind::kRevocation);
  if (digest != nullptr) *digest = record::statement_digest(type, payload);
  return {world.company.sign_payload(type, payload, world.company.company.token("ivan")), {}};
}

inline Result<api::Submitted> drill(const BrokerProcess& world) {
  SP_TRY(ApiPeer ivan, world.peer("ivan"));
  return ivan.submit(make_drill(world));
}

// Another one, acknowledged when it is signed: somebody asks for a machine to be enrolled.
inline Result<api::Submitted> ask_to_enrol(BrokerProcess& world) {
  SoftTpm tpm;
  SP_TRY(ApiPeer erin, world.peer("erin"));
  return erin.submit(world.company.enrolment_request(tpm, {}, crypto::random_case_id()));
}

// wait_ready waits until the broker is ready; what it says otherwise fails the test.
inline void wait_ready(const BrokerProcess& world) {
  EXPECT_TRUE(poll_until([&] { return world.ready().first == 200; })) << world.ready().second;
}

}  // namespace sallyport::test
