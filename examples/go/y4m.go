package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const how = "let ffmpeg write it by `-pix_fmt yuv420p -color_range tv -f yuv4mpegpipe`"

// y4m reads YUV4MPEG2, the raw video that ffmpeg writes into a pipe: I420, 8 bits, as the service takes it.
type y4m struct {
	width, height int
	// Microseconds a frame, over and under the fraction's line.
	rate, scale int64
	input       *bufio.Reader
	number      int
}

func openY4m(input io.Reader) (*y4m, error) {
	video := &y4m{input: bufio.NewReaderSize(input, 1<<20)}
	line, err := video.line()
	if err != nil || !strings.HasPrefix(line, "YUV4MPEG2 ") {
		return nil, fmt.Errorf("the input is no y4m video; %s", how)
	}
	for _, word := range strings.Fields(line)[1:] {
		switch value := word[1:]; word[0] {
		case 'W':
			video.width, _ = strconv.Atoi(value)
		case 'H':
			video.height, _ = strconv.Atoi(value)
		case 'F':
			fmt.Sscanf(value, "%d:%d", &video.rate, &video.scale)
		case 'C':
			if value != "420" && value != "420jpeg" && value != "420mpeg2" && value != "420paldv" {
				return nil, fmt.Errorf("y4m with planes C%s, allowed is 8-bit C420; %s", value, how)
			}
		case 'X':
			if value == "COLORRANGE=FULL" {
				return nil, fmt.Errorf("y4m of full range, allowed is limited range; %s", how)
			}
		}
	}
	if video.width < 1 || video.height < 1 || video.rate < 1 || video.scale < 1 {
		return nil, fmt.Errorf("y4m header %q lacks width W, height H or frame rate F; %s", line, how)
	}
	return video, nil
}

// next returns the packed planes of the next frame and its time in microseconds; io.EOF at the end.
func (video *y4m) next() ([]byte, int64, error) {
	line, err := video.line()
	if err != nil {
		return nil, 0, err
	}
	if line != "FRAME" && !strings.HasPrefix(line, "FRAME ") {
		return nil, 0, fmt.Errorf("%.20q where frame %d should begin", line, video.number)
	}
	planes := make([]byte, video.width*video.height+2*((video.width+1)/2)*((video.height+1)/2))
	if _, err := io.ReadFull(video.input, planes); err != nil {
		return nil, 0, fmt.Errorf("the video breaks off in frame %d", video.number)
	}
	timeUs := int64(video.number) * 1_000_000 * video.scale / video.rate
	video.number++
	return planes, timeUs, nil
}

func (video *y4m) line() (string, error) {
	line, err := video.input.ReadSlice('\n')
	switch {
	case err == nil:
		return string(line[:len(line)-1]), nil
	case err == io.EOF && len(line) == 0:
		return "", io.EOF
	default:
		return "", errors.New("a line of y4m without an end; " + how)
	}
}
