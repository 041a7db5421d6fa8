// Has the headers precompiled that all tests include (tests/CMakeLists.txt).
int main() {}
