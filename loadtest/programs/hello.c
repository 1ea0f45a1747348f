/* The compiled hello: one write, linked statically, so that what is measured is starting it. */
#include <unistd.h>

int main(void)
{
    static const char text[] = "hello\n";
    return write(1, text, sizeof text - 1) == sizeof text - 1 ? 0 : 1;
}
