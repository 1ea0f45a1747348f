/* Reading what the file service is asked: no system call, no state, so that it can be fuzzed as it
 * is. */
#include "service.h"

#include <errno.h>
#include <string.h>

bool takes_long(uint32_t op)
{
	return op >= SBX_FILE_LIST && op <= SBX_FILE_WATCH;
}

int parse_request(struct request *request, const uint8_t *message, size_t size, size_t fd_count)
{
	struct sbx_file_request *head = &request->head;
	struct sbx_cursor cursor;
	size_t fds;

	errno = EPROTO;
	if (size < sizeof(*head))
		return -1;
	memcpy(head, message, sizeof(*head));
	fds = head->op == SBX_FILE_WRITE ? 2 : takes_long(head->op) ? 1 : 0;
	if (head->head.type != SBX_MSG_FILE || head->head.version != SBX_ABI || fd_count != fds ||
	    head->op < SBX_FILE_STAT || head->op > SBX_FILE_WATCH)
		return -1;
	cursor = (struct sbx_cursor){message + sizeof(*head), message + size, false};
	request->path = sbx_string(&cursor);
	request->target = head->op == SBX_FILE_MOVE ? sbx_string(&cursor) : "";
	request->xattrs = (head->op == SBX_FILE_PUT || head->op == SBX_FILE_WRITE) &&
					  head->flags & SBX_FILE_XATTRS
				  ? sbx_string(&cursor)
				  : "";
	request->content = (const uint8_t *)"";
	request->content_size = 0;
	if (head->op == SBX_FILE_PUT)
		request->content = sbx_field(&cursor, &request->content_size);
	return cursor.bad || cursor.at != cursor.end ? -1 : 0;
}
