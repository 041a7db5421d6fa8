// A PKCS #11 module that is SoftHSM while it works ('w' in the file that SALLYPORT_TEST_HSM names), does not
// return while it hangs ('h'), and has lost its device while that is pulled out ('r').
#include <dlfcn.h>
#include <fcntl.h>
#include <p11-kit/pkcs11.h>
#include <unistd.h>

#include <cstdlib>

namespace {

CK_FUNCTION_LIST* softhsm = nullptr;
CK_FUNCTION_LIST moody;

char mood() {
  static const char* const name = std::getenv("SALLYPORT_TEST_HSM");
  char now = 'w';
  const int fd = ::open(name, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    if (::read(fd, &now, 1) != 1) now = 'w';
    ::close(fd);
  }
  return now;
}

template <auto Member, class... Arguments>
CK_RV call(Arguments... arguments) {
  while (mood() == 'h') ::usleep(20'000);
  if (mood() == 'r') return CKR_DEVICE_REMOVED;
  return (softhsm->*Member)(arguments...);
}

template <auto Member, class... Arguments>
void wrap(CK_RV (*CK_FUNCTION_LIST::*)(Arguments...)) {
  moody.*Member = call<Member, Arguments...>;
}

}  // namespace

extern "C" CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR out) {
  if (softhsm == nullptr) {
    void* const library = ::dlopen("/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
    const auto list =
        library == nullptr
            ? nullptr
            : reinterpret_cast<CK_RV (*)(CK_FUNCTION_LIST_PTR_PTR)>(::dlsym(library, "C_GetFunctionList"));
    if (list == nullptr || list(&softhsm) != CKR_OK) return CKR_GENERAL_ERROR;
    moody = *softhsm;
    wrap<&CK_FUNCTION_LIST::C_GetSlotList>(&CK_FUNCTION_LIST::C_GetSlotList);
    wrap<&CK_FUNCTION_LIST::C_GetTokenInfo>(&CK_FUNCTION_LIST::C_GetTokenInfo);
    wrap<&CK_FUNCTION_LIST::C_OpenSession>(&CK_FUNCTION_LIST::C_OpenSession);
    wrap<&CK_FUNCTION_LIST::C_GetSessionInfo>(&CK_FUNCTION_LIST::C_GetSessionInfo);
    wrap<&CK_FUNCTION_LIST::C_Login>(&CK_FUNCTION_LIST::C_Login);
    wrap<&CK_FUNCTION_LIST::C_FindObjectsInit>(&CK_FUNCTION_LIST::C_FindObjectsInit);
    wrap<&CK_FUNCTION_LIST::C_SignInit>(&CK_FUNCTION_LIST::C_SignInit);
    wrap<&CK_FUNCTION_LIST::C_Sign>(&CK_FUNCTION_LIST::C_Sign);
  }
  *out = &moody;
  return CKR_OK;
}
