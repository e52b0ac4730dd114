/* Says what a process sees of the system it is in: its pid, its host's name, its network interfaces. */
#include <net/if.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    char host[65] = "?";
    gethostname(host, sizeof host - 1);
    printf("hello from pid %d on %s\n", (int)getpid(), host);
    struct if_nameindex *links = if_nameindex();
    for (struct if_nameindex *link = links; link && link->if_index; link++)
        printf("%u: %s\n", link->if_index, link->if_name);
    if_freenameindex(links);
    return 0;
}
